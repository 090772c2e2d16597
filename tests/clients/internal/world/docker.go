package world

import (
	"encoding/json"
	"os"
	"os/exec"
)

// dockerRuntime is the name that docker knows the runtime under test by.
const dockerRuntime = "under-test"

// Docker is the world's dockerd.
type Docker struct {
	host string
	// config is the folder of the client's settings; without one it would read those of the user.
	config string
}

// StartDocker starts dockerd on a containerd; every container runs by the runtime under test.
func (w *World) StartDocker(c *Containerd) (*Docker, error) {
	root := w.Below("docker")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{
		"features":        map[string]bool{"containerd-snapshotter": true},
		"runtimes":        map[string]any{dockerRuntime: map[string]string{"runtimeType": w.Runtime}},
		"default-runtime": dockerRuntime,
	})
	if err != nil {
		return nil, err
	}
	file := root + "/daemon.json"
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	d := &Docker{host: "unix://" + root + "/sock", config: root + "/client"}
	daemon := w.daemon("dockerd", "--config-file", file, "--containerd", c.Address, "--data-root", root+"/data",
		"--exec-root", root+"/exec", "-H", d.host, "-p", root+"/pid", "--userland-proxy=false",
		"--cgroup-parent", "/"+w.Namespace, "--exec-opt", "native.cgroupdriver=cgroupfs")
	return d, daemon.start(func() bool { return d.Command("version").Run() == nil })
}

// Command is docker's client for this daemon.
func (d *Docker) Command(args ...string) *exec.Cmd {
	cmd := exec.Command("docker", append([]string{"--host", d.host, "--config", d.config}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=dumb")
	return cmd
}
