package world

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
)

// stopPatience bounds the wait for a daemon that was asked to end; dockerd itself gives containers fifteen seconds.
const stopPatience = 20 * time.Second

// logTail is how much of a daemon's log a failed test shows, in bytes.
const logTail = 8 << 10

// daemon is one background program with a log of its own.
type daemon struct {
	name string
	args []string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

func (w *World) daemon(name string, args ...string) *daemon {
	d := &daemon{name: name, args: args, log: w.Below(name + ".log")}
	w.daemons = append(w.daemons, d)
	return d
}

// start runs the program until it answers.
func (d *daemon) start(answers func() bool) error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command(d.name, d.args...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.done = make(chan struct{})
	go func() {
		d.cmd.Wait()
		close(d.done)
	}()
	if !within(Patience, func() bool { return d.ended() || answers() }) || d.ended() {
		return fmt.Errorf("start %s: it does not answer\n%s", d.name, d.logged(0))
	}
	return nil
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// kill ends the program as a crash would, and waits for it.
func (d *daemon) kill() {
	d.cmd.Process.Kill()
	<-d.done
}

func (d *daemon) stop() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	if !within(stopPatience, d.ended) {
		d.kill()
	}
}

// logged is what the daemon has logged since its log had a size, or the end of that.
func (d *daemon) logged(since int64) string {
	log, _ := os.ReadFile(d.log)
	log = log[max(int(since), len(log)-logTail):]
	return fmt.Sprintf("--- %s logged\n%s", d.name, log)
}

func (d *daemon) logSize() int64 {
	about, err := os.Stat(d.log)
	if err != nil {
		return 0
	}
	return about.Size()
}

func (w *World) stopDaemons() {
	for i := len(w.daemons) - 1; i >= 0; i-- {
		w.daemons[i].stop()
	}
}

// Containerd is the world's containerd.
type Containerd struct {
	// Address is the path of its socket.
	Address string
	// Namespace is that of the tests.
	Namespace string
	daemon    *daemon
}

// What ours leaves out is a Kubernetes runtime, and snapshotters that log what they miss.
const containerdConfig = `version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]

[grpc]
address = %q

[plugins."io.containerd.internal.v1.opt"]
path = %q
`

// StartContainerd starts it, with everything it writes in the world's folder.
func (w *World) StartContainerd() (*Containerd, error) {
	root := w.Below("containerd")
	address := filepath.Join(root, "sock")
	text := fmt.Sprintf(containerdConfig, filepath.Join(root, "root"), filepath.Join(root, "state"), address,
		filepath.Join(root, "opt"))
	file := w.Below("containerd.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	c := &Containerd{address, w.Namespace, w.daemon("containerd", "--config", file)}
	return c, c.daemon.start(c.answers)
}

// Client connects to it; the test's end closes it.
func (c *Containerd) Client(t *testing.T) *containerd.Client {
	t.Helper()
	client, err := containerd.New(c.Address, containerd.WithDefaultNamespace(c.Namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// Crash kills it and starts it again.
func (c *Containerd) Crash() error {
	c.daemon.kill()
	return c.daemon.start(c.answers)
}

func (c *Containerd) answers() bool {
	client, err := containerd.New(c.Address, containerd.WithTimeout(time.Second))
	if err != nil {
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	serving, err := client.IsServing(ctx)
	return err == nil && serving
}
