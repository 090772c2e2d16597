package docker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vminit/tests/clients/internal/pty"
	"vminit/tests/clients/internal/world"
)

func TestRunTellsOutputAndExitStatus(t *testing.T) {
	host.Watch(t)
	out, err, status := try(t, "run", "--rm", world.Image, "sh", "-c", "echo to stdout; echo to stderr >&2; exit 7")
	if out != "to stdout\n" || err != "to stderr\n" || status != 7 {
		t.Errorf("stdout %q, stderr %q, status %d", out, err, status)
	}
	if left := docker(t, "ps", "-aq"); left != "" {
		t.Errorf("--rm left %s", left)
	}
}

func TestContainerHasAKernelOfItsOwn(t *testing.T) {
	host.Watch(t)
	host.WantOtherKernel(t, docker(t, "run", "--rm", world.Image, "cat", world.BootID)+"\n")
}

func TestTerminalHasTheSizeOfTheClients(t *testing.T) {
	host.Watch(t)
	screen, program := pty.New(t, 33, 99)
	cmd := daemon.Command("run", "--rm", "-it", "--name", "tty", world.Image, "sh")
	pty.Give(cmd, program)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, "tty") })
	// The client tells the size just after the start.
	screen.Types("until [ \"$(stty size)\" = '33 99' ]; do usleep 100000; done; echo o''k")
	screen.Shows("ok")
	screen.Types("exit 3")
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 3 {
		t.Error("docker run:", cmd.ProcessState)
	}
}

func TestExecLogsStatsTopStopAndRemove(t *testing.T) {
	host.Watch(t)
	start(t, "life", "trap 'echo leaving; exit 42' TERM; echo here; while :; do sleep 0.2; done")
	wantExec(t, "life", "echo within; exit 3", "within\n", 3)
	wantExec(t, "life", "kill -9 $$", "", 137)
	world.Eventually(t, "the log has its line", func() bool { return docker(t, "logs", "life") == "here" })
	if memory := docker(t, "stats", "--no-stream", "--format", "{{.MemUsage}}", "life"); strings.HasPrefix(memory, "0B") {
		t.Errorf("memory: %s", memory)
	}
	// The title, and at least PID 1: of the host's processes docker shows those that it finds by number.
	if top := docker(t, "top", "life"); strings.Count(top, "\n") < 1 {
		t.Errorf("top: %s", top)
	}
	docker(t, "pause", "life")
	becomes(t, "life", ".State.Status", "paused")
	docker(t, "unpause", "life")
	docker(t, "stop", "-t", "30", "life")
	if code := inspect(t, "life", ".State.ExitCode"); code != "42" {
		t.Errorf("exit status %s", code)
	}
	if log := docker(t, "logs", "life"); log != "here\nleaving" {
		t.Errorf("log %q", log)
	}
	docker(t, "start", "life")
	becomes(t, "life", ".State.Running", "true")
	docker(t, "kill", "life")
	becomes(t, "life", ".State.ExitCode", "137")
	docker(t, "rm", "life")
}

func TestFilesAreCopiedBothWays(t *testing.T) {
	host.Watch(t)
	folder := t.TempDir()
	start(t, "copies", "echo from within >/tmp/out; exec sleep 1000")
	write(t, filepath.Join(folder, "in"), "from outside\n")
	docker(t, "cp", folder+"/in", "copies:/tmp/in")
	wantExec(t, "copies", "cat /tmp/in", "from outside\n", 0)
	world.Eventually(t, "the file is there", func() bool {
		_, _, status := try(t, "cp", "copies:/tmp/out", folder+"/out")
		return status == 0 && read(folder+"/out") == "from within\n"
	})
}

func TestVolumesAreSharedAndReadOnlyOnesRefuseWrites(t *testing.T) {
	host.Watch(t)
	folder := t.TempDir()
	write(t, folder+"/data/old", "old\n")
	write(t, folder+"/file", "alone\n")
	start(t, "volumes", "exec sleep 1000", "-v", folder+"/data:/data", "-v", folder+"/data:/fixed:ro",
		"-v", folder+"/file:/etc/alone")
	wantExec(t, "volumes", "cat /data/old /fixed/old /etc/alone", "old\nold\nalone\n", 0)
	wantExec(t, "volumes", "echo new >/data/new && echo changed >/etc/alone", "", 0)
	wantExec(t, "volumes", "echo x 2>/dev/null >/fixed/old", "", 1)
	for name, want := range map[string]string{"data/new": "new\n", "file": "changed\n", "data/old": "old\n"} {
		if got := read(filepath.Join(folder, name)); got != want {
			t.Errorf("%s outside: %q", name, got)
		}
	}
}

func TestMemoryLimitIsTheContainers(t *testing.T) {
	host.Watch(t)
	start(t, "limited", "exec sleep 1000", "-m", "64m")
	// The limit by version 1 of cgroups, or by 2.
	wantExec(t, "limited", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true",
		fmt.Sprintln(64<<20), 0)
	start(t, "greedy", "tail /dev/zero", "-m", "64m")
	becomes(t, "greedy", ".State.ExitCode", "137")
	becomes(t, "greedy", ".State.OOMKilled", "true")
}

func TestHealthCheckTellsTheStateOfTheContainer(t *testing.T) {
	host.Watch(t)
	start(t, "healthy", "exec sleep 1000", "--health-cmd", "test ! -e /tmp/ill", "--health-interval", "1s",
		"--health-retries", "1", "--health-timeout", "30s")
	becomes(t, "healthy", ".State.Health.Status", "healthy")
	wantExec(t, "healthy", "touch /tmp/ill", "", 0)
	becomes(t, "healthy", ".State.Health.Status", "unhealthy")
}

func TestRestartPolicyStartsAgainAsOftenAsItSays(t *testing.T) {
	host.Watch(t)
	start(t, "restarts", "echo again; exit 5", "--restart", "on-failure:2")
	becomes(t, "restarts", ".RestartCount", "2")
	becomes(t, "restarts", ".State.Status", "exited")
	if code := inspect(t, "restarts", ".State.ExitCode"); code != "5" {
		t.Errorf("exit status %s", code)
	}
	if log := docker(t, "logs", "restarts"); log != "again\nagain\nagain" {
		t.Errorf("log %q", log)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}
