package containerd

import (
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	gocni "github.com/containerd/go-cni"

	"vminit/tests/clients/internal/world"
)

// web serves one page on port 80.
const web = "mkdir /www; echo welcome >/www/index.html; exec httpd -f -p 80 -h /www"

func TestPublishedPortLeadsToTheContainer(t *testing.T) {
	c := create(t, shell(web), withPorts(gocni.PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}))
	k := c.start(cio.NullIO)
	address := c.read(c.ID() + ".address")
	for _, place := range []string{address + ":80", "10.4.0.1:8080", "127.0.0.1:8080"} {
		world.Eventually(t, "http://"+place+" answers", func() bool { return world.Page(place) == "welcome\n" })
	}
	if out, _ := k.exec("ip -4 addr show eth0"); !strings.Contains(out, " "+address+"/24 ") {
		t.Errorf("%s is not in %s", address, out)
	}
	if out, status := k.exec("ping -c 1 -W 10 10.4.0.1"); status != 0 {
		t.Errorf("the gateway is not reached: %s", out)
	}
	must(t, k.Kill(c.ctx, 9))
	k.wantExit(137)
	k.delete()
	if calls := c.read(c.ID() + ".hooks"); calls != "createRuntime\npoststop\n" {
		t.Errorf("hooks: %q", calls)
	}
}

func TestNoneIsANetworkWithoutWaysOut(t *testing.T) {
	k := run(t, "exec sleep 1000")
	if out, status := k.exec("ls /sys/class/net"); out != "lo\n" || status != 0 {
		t.Errorf("interfaces %q", out)
	}
}

func TestFailingHookFailsCreateInItsOwnWords(t *testing.T) {
	c := create(t, shell("exit 0"), withFailingHook)
	_, err := c.NewTask(c.ctx, cio.NullIO)
	if err == nil || !strings.Contains(err.Error(), failure) {
		t.Errorf("create: %v", err)
	}
	if calls := c.read(c.ID() + ".hooks"); calls != "createRuntime\npoststop\n" {
		t.Errorf("hooks: %q", calls)
	}
}
