package docker

import (
	"os/exec"
	"strings"
	"testing"

	"vminit/tests/clients/internal/pty"
	"vminit/tests/clients/internal/world"
)

func TestOptionsOfRunReachTheContainer(t *testing.T) {
	host.Watch(t)
	script := `id -u; id -g; hostname; echo $A; pwd; ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start
		touch /x 2>/dev/null || echo fixed
		touch /scratch/x && echo kept`
	out := docker(t, "run", "--rm", "--user", "1000:1001", "--hostname", "named", "-e", "A=b", "-w", "/tmp",
		"--ulimit", "nofile=100", "--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "--read-only",
		"--tmpfs", "/scratch:mode=1777", world.Image, "sh", "-c", script)
	if want := "1000\n1001\nnamed\nb\n/tmp\n100\n7\nfixed\nkept"; out != want {
		t.Errorf("printed %q, not %q", out, want)
	}
}

func TestPrivilegedContainersRun(t *testing.T) {
	host.Watch(t)
	out := docker(t, "run", "--rm", "--privileged", world.Image, "sh", "-c", "mount -t tmpfs none /tmp && echo mounted")
	if out != "mounted" {
		t.Errorf("printed %q", out)
	}
}

func TestStdinReachesTheContainerAndEnds(t *testing.T) {
	host.Watch(t)
	cmd := daemon.Command("run", "--rm", "-i", world.Image, "wc", "-l")
	cmd.Stdin = strings.NewReader("one\ntwo\n")
	if out, err := cmd.Output(); strings.TrimSpace(string(out)) != "2" || err != nil {
		t.Errorf("printed %q: %v", out, err)
	}
}

func TestNamedVolumesOutliveTheirContainers(t *testing.T) {
	host.Watch(t)
	t.Cleanup(func() { docker(t, "volume", "rm", "kept") })
	docker(t, "run", "--rm", "-v", "kept:/data", world.Image, "sh", "-c", "echo first >/data/file")
	if out := docker(t, "run", "--rm", "-v", "kept:/data", world.Image, "cat", "/data/file"); out != "first" {
		t.Errorf("the second container reads %q", out)
	}
}

func TestExecHasATerminalOfItsOwn(t *testing.T) {
	host.Watch(t)
	start(t, "shell", "exec sleep 1000")
	screen, cmd := onTerminal(t, "exec", "-it", "shell", "sh")
	screen.Types("test -t 0 && echo t''ty; exit 3")
	screen.Shows("tty")
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 3 {
		t.Error("docker exec:", cmd.ProcessState)
	}
}

func TestClientsAttachAndDetach(t *testing.T) {
	host.Watch(t)
	start(t, "echo", "while read line; do echo \"got $line\"; done", "-it")
	for _, line := range []string{"one", "two"} {
		screen, cmd := onTerminal(t, "attach", "echo")
		screen.Types(line)
		screen.Shows("got " + line)
		// Ctrl-P and Ctrl-Q leave the container running; docker's client calls that a failure of its own.
		screen.Keys("\x10\x11")
		cmd.Wait()
		becomes(t, "echo", ".State.Running", "true")
	}
}

// onTerminal starts docker's client at a terminal.
func onTerminal(t *testing.T, args ...string) (*pty.Screen, *exec.Cmd) {
	t.Helper()
	screen, program := pty.New(t, 24, 80)
	cmd := daemon.Command(args...)
	pty.Give(cmd, program)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return screen, cmd
}
