package containerd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/cgroups/v3/cgroup1/stats"
	cgroup2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/typeurl/v2"

	"vminit/tests/clients/internal/world"
)

func TestContainerHasAKernelOfItsOwn(t *testing.T) {
	k := run(t, "exec sleep 1000")
	out, _ := k.exec("cat " + world.BootID)
	host.WantOtherKernel(t, out)
}

func TestExecTellsItsOutputAndExitCode(t *testing.T) {
	k := run(t, "exec sleep 1000")
	for _, c := range []struct {
		script string
		out    string
		status uint32
	}{
		{"echo fine", "fine\n", 0},
		{"echo bad >&2; exit 3", "bad\n", 3},
		{"kill -9 $$", "", 137},
		{"nothing-there", "/bin/sh: nothing-there: not found\n", 127},
	} {
		if out, status := k.exec(c.script); out != c.out || status != c.status {
			t.Errorf("%s: output %q, status %d", c.script, out, status)
		}
	}
}

// trapsTerm succeeds once PID 1 handles SIGTERM, bit 14 of the mask; it gets no signal that it does not handle.
const trapsTerm = "grep -q 'SigCgt:.*[4-7c-f]...$' /proc/1/status"

func TestPauseHoldsTheContainerUntilResume(t *testing.T) {
	var out bytes.Buffer
	c := create(t, shell("trap 'echo awake; exit 4' TERM; while :; do sleep 0.1; done"))
	k := c.start(cio.NewCreator(cio.WithStreams(nil, &out, io.Discard)))
	k.eventually(trapsTerm)
	must(t, k.Pause(c.ctx))
	wantState(t, k, containerd.Paused)
	// A process that is frozen takes no signal.
	must(t, k.Kill(c.ctx, syscall.SIGTERM))
	wantState(t, k, containerd.Paused)
	must(t, k.Resume(c.ctx))
	k.wantExit(4)
	k.delete()
	if out.String() != "awake\n" {
		t.Errorf("output %q", out.String())
	}
}

func wantState(t *testing.T, k *task, want containerd.ProcessStatus) {
	t.Helper()
	status, err := k.Status(k.container.ctx)
	must(t, err)
	if status.Status != want {
		t.Errorf("the task is %s, not %s", status.Status, want)
	}
}

func TestStopIsASignalThatTheContainerMayAnswer(t *testing.T) {
	k := run(t, "trap 'exit 42' TERM; while :; do sleep 0.1; done")
	k.eventually(trapsTerm)
	must(t, k.Kill(k.container.ctx, syscall.SIGTERM))
	k.wantExit(42)
}

func TestStoppedContainerStartsAgainWithItsFiles(t *testing.T) {
	k := run(t, "[ -e /tmp/before ] && exit 5; touch /tmp/before; exec sleep 1000")
	k.eventually("test -e /tmp/before")
	must(t, k.Kill(k.container.ctx, syscall.SIGKILL))
	k.wantExit(137)
	k.delete()
	k.container.start(cio.NullIO).wantExit(5)
}

func TestTopListsProcessesThatNameNoOtherOfTheHost(t *testing.T) {
	k := run(t, "sleep 1000 & exec sleep 1000")
	var pids []containerd.ProcessInfo
	world.Eventually(t, "there are two processes", func() bool {
		var err error
		pids, err = k.Pids(k.container.ctx)
		must(t, err)
		return len(pids) == 2
	})
	if pids[0].Pid != k.Pid() && pids[1].Pid != k.Pid() {
		t.Errorf("%v do not have the task's own, %d", pids, k.Pid())
	}
	for _, each := range pids {
		cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", each.Pid))
		if each.Pid != k.Pid() && err == nil && !strings.Contains(string(cgroups), k.ID()) {
			t.Errorf("%d is another process of the host", each.Pid)
		}
	}
}

func TestStatsTellTheMemoryInUse(t *testing.T) {
	k := run(t, "exec sleep 1000")
	metric, err := k.Metrics(k.container.ctx)
	must(t, err)
	decoded, err := typeurl.UnmarshalAny(metric.Data)
	must(t, err)
	var usage uint64
	switch metrics := decoded.(type) {
	case *stats.Metrics:
		usage = metrics.GetMemory().GetUsage().GetUsage()
	case *cgroup2.Metrics:
		usage = metrics.GetMemory().GetUsage()
	default:
		t.Fatalf("metrics of type %T", decoded)
	}
	if usage == 0 {
		t.Errorf("no memory in use: %v", decoded)
	}
}

func TestTaskOutlivesACrashOfContainerd(t *testing.T) {
	c := create(t, shell("i=0; while [ ! -e /tmp/enough ]; do echo $i; i=$((i+1)); usleep 10000; done; exit 6"))
	log := filepath.Join(c.folder, "log")
	c.start(cio.LogFile(log))
	world.Eventually(t, "the task prints", func() bool { return strings.Contains(c.read("log"), "9\n") })
	must(t, daemon.Crash())

	again, err := daemon.Client(t).LoadContainer(c.ctx, c.ID())
	must(t, err)
	found, err := again.Task(c.ctx, nil)
	must(t, err)
	exits, err := found.Wait(c.ctx)
	must(t, err)
	k := &task{found, c, exits}
	wantState(t, k, containerd.Running)
	before := len(c.read("log"))
	world.Eventually(t, "the task still prints", func() bool { return len(c.read("log")) > before })
	if out, status := k.exec("echo within"); out != "within\n" || status != 0 {
		t.Errorf("exec: output %q, status %d", out, status)
	}
	// The end of the init is the end of this one too, so that its status may be either.
	k.exec("touch /tmp/enough")
	k.wantExit(6)
	k.delete()
	wantCountedFromZero(t, c.read("log"))
}

func wantCountedFromZero(t *testing.T, log string) {
	t.Helper()
	next := 0
	for line := range strings.Lines(log) {
		if line != fmt.Sprintln(next) {
			t.Fatalf("line %d is %q", next, line)
		}
		next++
	}
}
