// Package docker tests a runtime with a real dockerd and docker's own client.
package docker

import (
	"fmt"
	"testing"

	"vminit/tests/clients/internal/world"
)

// host and daemon are where every test of the package runs, one after the other.
var (
	host   *world.World
	daemon *world.Docker
)

func TestMain(m *testing.M) {
	world.Main(m, func(w *world.World) error {
		host = w
		containerd, err := w.StartContainerd()
		if err != nil {
			return err
		}
		if daemon, err = w.StartDocker(containerd); err != nil {
			return err
		}
		if out, err := daemon.Command("load", "-i", w.Archive()).CombinedOutput(); err != nil {
			return fmt.Errorf("load the image: %s", out)
		}
		return nil
	})
}
