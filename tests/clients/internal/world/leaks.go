package world

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Bridge is the CNI bridge of the tests. The plugin makes it for the first container and never removes it.
const Bridge = "clients0"

// folders hold one entry per machine, container, or process's stream.
var folders = []string{"/run/vminit", "/run/containerd/s", "/run/containerd/fifo", "/run/netns"}

// Watch fails the test when something is there after it that was not before: a process, mount, interface, qdisc,
// cgroup, socket or port mapping. Called first in a test, it looks last. What the daemons of a failed test have logged
// is shown with it.
func (w *World) Watch(t *testing.T) {
	t.Helper()
	w.showLogs(t)
	before := w.inventory()
	t.Cleanup(func() {
		// Daemons answer before they have cleaned up.
		if within(Patience, func() bool { return len(w.left(before)) == 0 }) {
			return
		}
		for _, thing := range w.left(before) {
			t.Error("left behind:", thing)
		}
	})
}

// left is what is there and was not before.
func (w *World) left(before []string) []string {
	return slices.DeleteFunc(w.inventory(), func(thing string) bool { return slices.Contains(before, thing) })
}

func (w *World) showLogs(t *testing.T) {
	sizes := make(map[*daemon]int64)
	for _, d := range w.daemons {
		sizes[d] = d.logSize()
	}
	t.Cleanup(func() {
		if t.Failed() {
			for d, size := range sizes {
				t.Log(d.logged(size))
			}
		}
	})
}

// inventory names all that a container could leave in this world.
func (w *World) inventory() []string {
	things := slices.Concat(processes(), mounts(), interfaces(), lines("qdisc", "tc", "qdisc", "show"), portMappings())
	for _, folder := range folders {
		things = append(things, glob("file", folder+"/*")...)
	}
	// Each controller has a tree of its own, or all have one.
	for _, tree := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		things = append(things, glob("cgroup", tree+w.Namespace+"/*/cgroup.procs")...)
	}
	return things
}

// processes are those of this PID namespace, without PID 1, the tests and what these run themselves.
func processes() []string {
	var found []string
	own := []string{"1", fmt.Sprint(os.Getpid())}
	statuses, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range statuses {
		pid := filepath.Base(filepath.Dir(path))
		name := strings.TrimPrefix(firstLine(path), "Name:\t")
		// One that ended meanwhile has no name. A daemon that was restarted has another PID.
		if name != "" && !slices.Contains(own, pid) && name != "containerd" && name != "dockerd" {
			found = append(found, fmt.Sprintf("process %s (%s)", pid, name))
		}
	}
	return found
}

func firstLine(path string) string {
	text, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func mounts() []string {
	var found []string
	text, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(text)) {
		// Field 5 is the mount point (proc_pid_mountinfo(5)).
		if fields := strings.Fields(line); len(fields) > 4 {
			found = append(found, "mount "+fields[4])
		}
	}
	return found
}

func interfaces() []string {
	var found []string
	all, _ := net.Interfaces()
	for _, each := range all {
		if each.Name != Bridge {
			found = append(found, "interface "+each.Name)
		}
	}
	return found
}

// portMappings are the rules that send a port to an address; chains stay when their last rule goes.
func portMappings() []string {
	rules := lines("rule", "iptables", "-t", "nat", "-S")
	return slices.DeleteFunc(rules, func(rule string) bool { return !strings.Contains(rule, "--to-destination") })
}

// lines are those that a program prints, without what they say of the bridge.
func lines(kind, program string, args ...string) []string {
	var found []string
	out, _ := exec.Command(program, args...).Output()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, Bridge) {
			found = append(found, kind+" "+strings.TrimSpace(line))
		}
	}
	return found
}

func glob(kind, pattern string) []string {
	found, _ := filepath.Glob(pattern)
	for i, path := range found {
		found[i] = kind + " " + path
	}
	return found
}

// removeCgroups takes those of a world away once its processes are gone: the parents, which no daemon removes, and what
// failed tests left.
func removeCgroups(namespace string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		for _, deeper := range []string{"/*/*", "/*", ""} {
			found, _ := filepath.Glob(pattern + namespace + deeper)
			for _, path := range found {
				// Files are no cgroups, and rmdir(2) refuses them.
				syscall.Rmdir(path)
			}
		}
	}
}
