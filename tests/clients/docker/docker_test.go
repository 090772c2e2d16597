package docker

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"vminit/tests/clients/internal/world"
)

// try answers what docker printed on each of its streams, and its exit status.
func try(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := daemon.Command(args...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if failure := cmd.Run(); failure != nil && !errors.As(failure, &exit) {
		t.Fatal(failure)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// docker is what it printed where nothing but success is right, without the line's end.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err, status := try(t, args...)
	if status != 0 {
		t.Fatalf("docker %q: status %d: %s%s", args, status, out, err)
	}
	return strings.TrimSuffix(out, "\n")
}

// start is `docker run -d` of a shell's script; the test's end removes the container.
func start(t *testing.T, name, script string, options ...string) {
	t.Helper()
	args := append([]string{"run", "-d", "--name", name}, options...)
	t.Cleanup(func() { remove(t, name) })
	docker(t, append(args, world.Image, "sh", "-c", script)...)
}

func remove(t *testing.T, name string) {
	t.Helper()
	if out, err, status := try(t, "rm", "-f", name); status != 0 && !strings.Contains(err, "No such container") {
		t.Errorf("remove %s: %s%s", name, out, err)
	}
}

// wantExec runs a script in the container and compares its stdout and its status.
func wantExec(t *testing.T, name, script, want string, wantStatus int) {
	t.Helper()
	if out, err, status := try(t, "exec", name, "sh", "-c", script); out != want || status != wantStatus {
		t.Errorf("%s: stdout %q, stderr %q, status %d", script, out, err, status)
	}
}

// inspect is one value of what docker knows about the container.
func inspect(t *testing.T, name, format string) string {
	t.Helper()
	return docker(t, "inspect", "-f", "{{"+format+"}}", name)
}

// becomes waits until a value of what docker knows is the wanted one.
func becomes(t *testing.T, name, format, want string) {
	t.Helper()
	world.Eventually(t, format+" is "+want, func() bool { return inspect(t, name, format) == want })
}
