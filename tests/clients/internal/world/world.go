package world

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const (
	// DefaultRuntime is what the tests are for; another, such as io.containerd.runc.v2, tells what is right.
	DefaultRuntime = "io.containerd.vminit.v1"
	// Image is the name of what build/busybox.tar holds.
	Image = "docker.io/vminit/busybox:latest"
	// BootID is the file that tells one boot of a kernel from another.
	BootID = "/proc/sys/kernel/random/boot_id"
	// Patience bounds each wait of a test: a machine boots in three to five seconds without KVM, and its programs run
	// ten times slower than the host's.
	Patience = time.Minute
	// pause is how often a condition is looked at.
	pause = 50 * time.Millisecond
)

// World is the host of one package's tests.
type World struct {
	// Folder holds all that is written; it goes when the tests end.
	Folder string
	// Namespace is the containerd namespace of the tests, and the parent of docker's cgroups: the folder's own name, for
	// the host's cgroups are shared with others.
	Namespace string
	// Build is where the project keeps what was built or fetched.
	Build string
	// Runtime is the containerd runtime under test.
	Runtime string

	daemons []*daemon
}

// programs are those that the tests or the daemons cannot do without, or that would hide leaks by their absence.
var programs = []string{"containerd", "ip", "iptables", "tar", "tc"}

// newWorld finds the programs by VMINITD_BUILD, and puts them first on PATH.
func newWorld(folder string) (*World, error) {
	build, err := filepath.Abs(setting("VMINITD_BUILD", "../../../build"))
	if err != nil {
		return nil, err
	}
	path := fmt.Sprintf("%s/go/bin:%s:%s/debian/bin:%s", build, build, build, os.Getenv("PATH"))
	if err := os.Setenv("PATH", path); err != nil {
		return nil, err
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("do without a program: %w", err)
		}
	}
	runtime := setting("VMINIT_RUNTIME", DefaultRuntime)
	return &World{Folder: folder, Namespace: filepath.Base(folder), Build: build, Runtime: runtime}, nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// WantOtherKernel compares the boot that a container sees with the host's own; a runtime without machines is not asked.
func (w *World) WantOtherKernel(t *testing.T, bootID string) {
	t.Helper()
	if w.Runtime != DefaultRuntime {
		t.Skipf("containers of %s share the host's kernel", w.Runtime)
	}
	ours, err := os.ReadFile(BootID)
	if err != nil || bootID == string(ours) || len(bootID) != len(ours) {
		t.Errorf("boot %q; the host's is %q (%v)", bootID, ours, err)
	}
}

// Archive is the path of the image.
func (w *World) Archive() string {
	return filepath.Join(w.Build, "busybox.tar")
}

// Below is a path in the world's folder.
func (w *World) Below(elements ...string) string {
	return filepath.Join(append([]string{w.Folder}, elements...)...)
}

// Eventually waits until the condition holds, and fails the test when it does not in time.
func Eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	if !within(Patience, holds) {
		t.Fatalf("not within %v: %s", Patience, what)
	}
}

func within(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); !holds(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// pageLimit bounds one request; a port that leads nowhere may swallow it.
const pageLimit = 5 * time.Second

// Page is what a web server at this address and port answers, and empty when none does.
func Page(place string) string {
	client := http.Client{Timeout: pageLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + place + "/")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return string(text)
}
