package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	gocni "github.com/containerd/go-cni"
	"github.com/opencontainers/runtime-spec/specs-go"

	"vminit/tests/clients/internal/world"
)

// testLimit bounds a whole test with its cleanup.
const testLimit = 3 * time.Minute

// container is one that a test has made, and the folder of its hooks and logs.
type container struct {
	containerd.Container
	t      *testing.T
	ctx    context.Context
	folder string
}

// task is a running one.
type task struct {
	containerd.Task
	container *container
	exits     <-chan containerd.ExitStatus
}

// create makes a container as nerdctl does: with hooks, which do nothing unless a network is asked for. The test's end
// removes it and its task.
func create(t *testing.T, opts ...oci.SpecOpts) *container {
	t.Helper()
	host.Watch(t)
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), host.Namespace), testLimit)
	t.Cleanup(cancel)
	client := daemon.Client(t)
	busybox, err := client.GetImage(ctx, world.Image)
	must(t, err)
	folder := t.TempDir()
	id := t.Name()
	opts = append([]oci.SpecOpts{oci.WithImageConfig(busybox), withHooks(folder)}, opts...)
	made, err := client.NewContainer(ctx, id, containerd.WithImage(busybox), containerd.WithNewSnapshot(id, busybox),
		containerd.WithRuntime(host.Runtime, nil), containerd.WithNewSpec(opts...))
	must(t, err)
	c := &container{made, t, ctx, folder}
	t.Cleanup(c.remove)
	return c
}

// remove is `nerdctl rm -f`, by a client of its own because the test may have restarted containerd.
func (c *container) remove() {
	made, err := daemon.Client(c.t).LoadContainer(c.ctx, c.ID())
	if err != nil {
		c.t.Error("load the container:", err)
		return
	}
	if task, err := made.Task(c.ctx, nil); err == nil {
		if _, err := task.Delete(c.ctx, containerd.WithProcessKill); err != nil {
			c.t.Error("delete the task:", err)
		}
	}
	if err := made.Delete(c.ctx, containerd.WithSnapshotCleanup); err != nil {
		c.t.Error("delete the container:", err)
	}
}

// start runs the container's task.
func (c *container) start(streams cio.Creator) *task {
	c.t.Helper()
	made, err := c.NewTask(c.ctx, streams)
	must(c.t, err)
	exits, err := made.Wait(c.ctx)
	must(c.t, err)
	must(c.t, made.Start(c.ctx))
	return &task{made, c, exits}
}

// run creates a container for a shell's script and starts it without streams.
func run(t *testing.T, script string, opts ...oci.SpecOpts) *task {
	t.Helper()
	return create(t, append(opts, shell(script))...).start(cio.NullIO)
}

func shell(script string) oci.SpecOpts {
	return oci.WithProcessArgs("sh", "-c", script)
}

// exec runs a script in the task, and answers its output, stdout first, and its status.
func (k *task) exec(script string) (string, uint32) {
	t, ctx := k.container.t, k.container.ctx
	t.Helper()
	var out, aside bytes.Buffer
	process, err := k.Task.Exec(ctx, "exec-"+time.Now().Format("150405.000000000"),
		&specs.Process{Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/bin"}, Cwd: "/"},
		cio.NewCreator(cio.WithStreams(nil, &out, &aside)))
	must(t, err)
	exits, err := process.Wait(ctx)
	must(t, err)
	must(t, process.Start(ctx))
	status := <-exits
	must(t, status.Error())
	// Only now is all output there: the streams end after the process.
	_, err = process.Delete(ctx)
	must(t, err)
	return out.String() + aside.String(), status.ExitCode()
}

// eventually waits until a script succeeds in the task.
func (k *task) eventually(script string) {
	k.container.t.Helper()
	world.Eventually(k.container.t, script, func() bool {
		_, status := k.exec(script)
		return status == 0
	})
}

// wantExit waits for the task's end.
func (k *task) wantExit(want uint32) {
	t := k.container.t
	t.Helper()
	select {
	case status := <-k.exits:
		if code, _, err := status.Result(); code != want || err != nil {
			t.Errorf("exit status %d (%v), not %d", code, err, want)
		}
	case <-time.After(world.Patience):
		t.Fatalf("the task does not end within %v", world.Patience)
	}
}

// delete removes the stopped task.
func (k *task) delete() {
	k.container.t.Helper()
	_, err := k.Task.Delete(k.container.ctx)
	must(k.container.t, err)
}

// withHooks has this program called at the container's creation and end.
func withHooks(folder string) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		call := func(role string) []specs.Hook {
			env := []string{"PATH=" + os.Getenv("PATH"), "CNI_PATH=" + host.Build + "/debian/usr/lib/cni"}
			return []specs.Hook{{Path: self, Args: []string{self, role, folder}, Env: env}}
		}
		s.Hooks = &specs.Hooks{CreateRuntime: call(roleCreateRuntime), Poststop: call(rolePoststop)}
		return nil
	}
}

// withPorts is `-p`: a bridge network, and ports of the host that lead to the container.
func withPorts(ports ...gocni.PortMapping) oci.SpecOpts {
	text, _ := json.Marshal(ports)
	return oci.WithAnnotations(map[string]string{annotationNetwork: "bridge", annotationPorts: string(text)})
}

// read is a file of the container's folder; it is empty when there is none.
func (c *container) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(c.folder, name))
	return string(text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// withFailingHook adds one after the others.
func withFailingHook(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
	fails := s.Hooks.CreateRuntime[0]
	fails.Args = []string{fails.Path, roleFail, "/"}
	s.Hooks.CreateRuntime = append(s.Hooks.CreateRuntime, fails)
	return nil
}
