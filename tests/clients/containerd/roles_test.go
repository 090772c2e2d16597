package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/runtime/v2/logging"
	gocni "github.com/containerd/go-cni"
	"github.com/opencontainers/runtime-spec/specs-go"

	"vminit/tests/clients/internal/world"
)

// What nerdctl's binary is started as: roles of this very program, each with a folder to write to.
const (
	roleCreateRuntime = "createRuntime"
	rolePoststop      = "poststop"
	roleFail          = "fail"
	roleLogging       = "logging"
)

// failure is what the failing hook says on stderr.
const failure = "this hook never succeeds"

// Annotations by which the hooks know what to do; nerdctl has its own.
const (
	annotationNetwork = "clients/network"
	annotationPorts   = "clients/ports"
)

var roles = map[string]func(folder string){
	roleCreateRuntime: func(folder string) { exit(hook(folder, roleCreateRuntime, attach)) },
	rolePoststop:      func(folder string) { exit(hook(folder, rolePoststop, detach)) },
	roleFail:          func(string) { exit(fmt.Errorf(failure)) },
	roleLogging:       func(folder string) { logging.Run(record(folder)) },
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// hook reads the container's state, marks that it was called, and does its work on the network if one is wanted.
func hook(folder, role string, work func(folder string, cni gocni.CNI, state *specs.State) error) error {
	var state specs.State
	if err := json.NewDecoder(os.Stdin).Decode(&state); err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	// nerdctl reads the bundle's configuration too.
	if _, err := os.Stat(filepath.Join(state.Bundle, "config.json")); err != nil {
		return err
	}
	if err := mark(folder, state.ID+".hooks", role); err != nil {
		return err
	}
	if state.Annotations[annotationNetwork] == "" {
		return nil
	}
	cni, err := network(folder)
	if err != nil {
		return err
	}
	return work(folder, cni, &state)
}

func mark(folder, name, line string) error {
	file, err := os.OpenFile(filepath.Join(folder, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintln(file, line)
	return err
}

// The bridge network that nerdctl makes for its users; what it writes stays in the folder.
const conflist = `{"cniVersion": "1.0.0", "name": "clients", "plugins": [
	{"type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": true, "hairpinMode": true,
		"ipam": {"type": "host-local", "dataDir": %q,
			"ranges": [[{"subnet": "10.4.0.0/24", "gateway": "10.4.0.1"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
	{"type": "portmap", "capabilities": {"portMappings": true}}]}`

func network(folder string) (gocni.CNI, error) {
	text := fmt.Sprintf(conflist, world.Bridge, filepath.Join(folder, "ipam"))
	return gocni.New(gocni.WithPluginDir([]string{os.Getenv("CNI_PATH")}), gocni.WithMinNetworkCount(1),
		gocni.WithPluginConfDir(folder), gocni.WithConfListBytes([]byte(text)))
}

func portsOf(state *specs.State) (gocni.NamespaceOpts, error) {
	var ports []gocni.PortMapping
	err := json.Unmarshal([]byte(state.Annotations[annotationPorts]), &ports)
	return gocni.WithCapabilityPortMap(ports), err
}

// attach is `CNI ADD` in the namespace of the state's process; the address goes into a file.
func attach(folder string, cni gocni.CNI, state *specs.State) error {
	ports, err := portsOf(state)
	if err != nil {
		return err
	}
	result, err := cni.Setup(context.Background(), state.ID, fmt.Sprintf("/proc/%d/ns/net", state.Pid), ports)
	if err != nil {
		return err
	}
	address := result.Interfaces["eth0"].IPConfigs[0].IP.String()
	return os.WriteFile(filepath.Join(folder, state.ID+".address"), []byte(address), 0o600)
}

// detach is `CNI DEL`, without a namespace because that one may be gone.
func detach(_ string, cni gocni.CNI, state *specs.State) error {
	ports, err := portsOf(state)
	if err != nil {
		return err
	}
	return cni.Remove(context.Background(), state.ID, "", ports)
}

// record is a logging binary: it keeps both streams, and marks their end.
func record(folder string) logging.LoggerFunc {
	return func(_ context.Context, config *logging.Config, ready func() error) error {
		name := config.Namespace + "." + config.ID
		streams := map[string]io.Reader{"stdout": config.Stdout, "stderr": config.Stderr}
		ended := make(chan error, len(streams))
		for stream, from := range streams {
			file, err := os.Create(filepath.Join(folder, name+"."+stream))
			if err != nil {
				return err
			}
			go func() {
				_, err := io.Copy(file, from)
				ended <- err
			}()
		}
		if err := ready(); err != nil {
			return err
		}
		for range streams {
			if err := <-ended; err != nil {
				return err
			}
		}
		return mark(folder, name+".done", "done")
	}
}
