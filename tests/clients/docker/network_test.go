package docker

import (
	"testing"

	"vminit/tests/clients/internal/world"
)

// web serves one page on port 80.
const web = "mkdir /www; echo welcome >/www/index.html; exec httpd -f -p 80 -h /www"

// addressOf is where a container is in a network.
func addressOf(t *testing.T, name, network string) string {
	t.Helper()
	return inspect(t, name, `(index .NetworkSettings.Networks "`+network+`").IPAddress`)
}

func TestPublishedPortLeadsToTheContainer(t *testing.T) {
	host.Watch(t)
	start(t, "web", web, "-p", "8080:80")
	for _, place := range []string{addressOf(t, "web", "bridge") + ":80", "172.17.0.1:8080", "127.0.0.1:8080"} {
		world.Eventually(t, "http://"+place+" answers", func() bool { return world.Page(place) == "welcome\n" })
	}
}

func TestNoneIsANetworkWithoutWaysOut(t *testing.T) {
	host.Watch(t)
	start(t, "alone", "exec sleep 1000", "--network", "none")
	wantExec(t, "alone", "ls /sys/class/net", "lo\n", 0)
}

func TestContainersOfOneNetworkReachEachOther(t *testing.T) {
	host.Watch(t)
	docker(t, "network", "create", "private")
	t.Cleanup(func() { docker(t, "network", "rm", "private") })
	start(t, "server", web, "--network", "private")
	start(t, "visitor", "exec sleep 1000", "--network", "private")
	address := addressOf(t, "server", "private")
	world.Eventually(t, "the server answers", func() bool { return world.Page(address+":80") == "welcome\n" })
	wantExec(t, "visitor", "wget -q -O - http://"+address+"/", "welcome\n", 0)
	if host.Runtime != world.DefaultRuntime {
		// Docker answers names in the namespace on the host's side, where no program of a machine can ask.
		wantExec(t, "visitor", "wget -q -O - http://server/", "welcome\n", 0)
	}
}
