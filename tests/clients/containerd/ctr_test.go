package containerd

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"vminit/tests/clients/internal/world"
)

// ctr answers what the program printed on each of its streams, and its exit status.
func ctr(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command("ctr", args...)
	cmd.Env = append(os.Environ(), "CONTAINERD_ADDRESS="+daemon.Address, "CONTAINERD_NAMESPACE="+host.Namespace)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if failure := cmd.Run(); failure != nil && !errors.As(failure, &exit) {
		t.Fatal(failure)
	}
	t.Logf("ctr %s: %v", args, cmd.ProcessState)
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// succeed is ctr where nothing but success is right.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	out, err, status := ctr(t, args...)
	if status != 0 {
		t.Fatalf("ctr %s: status %d: %s%s", args, status, out, err)
	}
	return out
}

func TestCtrRunTellsOutputAndExitStatus(t *testing.T) {
	host.Watch(t)
	out, err, status := ctr(t, "run", "--rm", "--runtime", host.Runtime, world.Image, "run-rm",
		"sh", "-c", "echo to stdout; echo to stderr >&2; exit 7")
	// ctr itself may warn on stderr, of the host's cgroups.
	if out != "to stdout\n" || !strings.HasSuffix(err, "to stderr\n") || status != 7 {
		t.Errorf("stdout %q, stderr %q, status %d", out, err, status)
	}
}

// The story that shim/tests/ctr/lifecycle.rs tells of Debian's containerd, once more on purpose: here containerd is the
// one that speaks version 3 of the Task service and starts shims by bootstrap parameters.
func TestCtrExecsPausesKillsAndRemoves(t *testing.T) {
	host.Watch(t)
	const id = "story"
	succeed(t, "run", "-d", "--runtime", host.Runtime, world.Image, id, "sleep", "1000")
	t.Cleanup(func() {
		ctr(t, "task", "rm", "-f", id)
		ctr(t, "container", "rm", id)
	})
	out, _, status := ctr(t, "task", "exec", "--exec-id", "one", id, "sh", "-c", "echo within; exit 3")
	if out != "within\n" || status != 3 {
		t.Errorf("exec: stdout %q, status %d", out, status)
	}
	succeed(t, "task", "pause", id)
	wantStatus(t, id, "PAUSED")
	succeed(t, "task", "resume", id)
	wantStatus(t, id, "RUNNING")
	succeed(t, "task", "kill", "--signal", "SIGKILL", id)
	world.Eventually(t, "the task is stopped", func() bool { return taskStatus(t, id) == "STOPPED" })
	if _, err, status := ctr(t, "task", "rm", id); status != 0 || !strings.Contains(err, "exit code 137") {
		t.Errorf("rm: status %d: %s", status, err)
	}
	succeed(t, "container", "rm", id)
}

// taskStatus is the last column of `ctr task ls`.
func taskStatus(t *testing.T, id string) string {
	t.Helper()
	for line := range strings.Lines(succeed(t, "task", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == id {
			return fields[2]
		}
	}
	return ""
}

func wantStatus(t *testing.T, id, want string) {
	t.Helper()
	if got := taskStatus(t, id); got != want {
		t.Errorf("the task is %q, not %s", got, want)
	}
}
