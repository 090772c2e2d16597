package world

import (
	"os/exec"
	"testing"
)

var host *World

func TestMain(m *testing.M) {
	Main(m, func(w *World) error {
		host = w
		return nil
	})
}

func TestInventoryNamesWhatAContainerCouldLeave(t *testing.T) {
	group := "/sys/fs/cgroup/*/" + host.Namespace + "/of-a-test"
	for _, c := range []struct{ leave, remove string }{
		{"sleep 1000 & echo $! >$0/pid", "kill $(cat $0/pid)"},
		{"mkdir $0/mount; mount -t tmpfs none $0/mount", "umount $0/mount"},
		{"ip tuntap add tap0 mode tap", "ip link del tap0"},
		{"tc qdisc add dev lo ingress", "tc qdisc del dev lo ingress"},
		{"iptables -t nat -A OUTPUT -p tcp --dport 8080 -j DNAT --to-destination 10.4.0.2:80", "iptables -t nat -F"},
		{"mkdir -p /run/vminit/machine", "rmdir /run/vminit/machine"},
		{"for tree in /sys/fs/cgroup/*/; do mkdir -p ${tree}" + host.Namespace + "/of-a-test; done", "rmdir " + group},
	} {
		before := host.inventory()
		shell(t, c.leave)
		if left := host.left(before); len(left) == 0 {
			t.Error("not noticed:", c.leave)
		}
		shell(t, c.remove)
		if !within(Patience, func() bool { return len(host.left(before)) == 0 }) {
			t.Errorf("still there after %s: %v", c.remove, host.left(before))
		}
	}
}

func shell(t *testing.T, script string) {
	t.Helper()
	// Without pipes: a process in the background would keep them open.
	if err := exec.Command("sh", "-c", "exec 2>/dev/null; "+script, host.Folder).Run(); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}
