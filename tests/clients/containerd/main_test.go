// Package containerd tests a runtime with containerd 2.4: its own ctr, and a client that does what nerdctl does.
package containerd

import (
	"context"
	"fmt"
	"os"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"vminit/tests/clients/internal/world"
)

// host and daemon are where every test of the package runs, one after the other.
var (
	host   *world.World
	daemon *world.Containerd
)

// TestMain is also the program that hooks and logging start, as nerdctl is for its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		if role, known := roles[os.Args[1]]; known {
			role(os.Args[2])
			return
		}
	}
	world.Main(m, func(w *world.World) error {
		host = w
		var err error
		if daemon, err = w.StartContainerd(); err != nil {
			return err
		}
		return importImage()
	})
}

func importImage() error {
	file, err := os.Open(host.Archive())
	if err != nil {
		return err
	}
	defer file.Close()
	client, err := containerd.New(daemon.Address)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := namespaces.WithNamespace(context.Background(), host.Namespace)
	if _, err := client.Import(ctx, file); err != nil {
		return fmt.Errorf("import the image: %w", err)
	}
	found, err := client.GetImage(ctx, world.Image)
	if err != nil {
		return err
	}
	return found.Unpack(ctx, "")
}
