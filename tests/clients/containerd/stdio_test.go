package containerd

import (
	"bytes"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"

	"vminit/tests/clients/internal/pty"
	"vminit/tests/clients/internal/world"
)

func TestLoggingBinaryGetsAllOutput(t *testing.T) {
	const lines = 20000
	c := create(t, shell("seq 20000; echo aside >&2; exit 9"))
	self, err := os.Executable()
	must(t, err)
	uri := url.URL{Scheme: "binary", Path: self, RawQuery: url.Values{roleLogging: {c.folder}}.Encode()}
	k := c.start(cio.LogURI(&uri))
	k.wantExit(9)
	k.delete()
	name := host.Namespace + "." + c.ID()
	world.Eventually(t, "the log is complete", func() bool { return c.read(name+".done") == "done\n" })
	if stderr := c.read(name + ".stderr"); stderr != "aside\n" {
		t.Errorf("stderr %q", stderr)
	}
	stdout := c.read(name + ".stdout")
	if got := strings.Count(stdout, "\n"); got != lines || !strings.HasSuffix(stdout, "\n20000\n") {
		t.Errorf("stdout has %d lines of %d", got, lines)
	}
}

func TestTerminalHasTheSizeOfTheClients(t *testing.T) {
	screen, program := pty.New(t, 33, 99)
	c := create(t, oci.WithProcessArgs("sh"), oci.WithTTY)
	k := c.start(cio.NewCreator(cio.WithStreams(program, program, nil), cio.WithTerminal))
	must(t, k.Resize(c.ctx, 99, 33))
	screen.Types("stty size; echo o''k")
	screen.Shows("33 99")
	screen.Shows("ok")
	must(t, k.Resize(c.ctx, 132, 50))
	screen.Types("stty size; exit 3")
	screen.Shows("50 132")
	k.wantExit(3)
	k.delete()
}

func TestStdinReachesTheContainerAndEnds(t *testing.T) {
	var out bytes.Buffer
	c := create(t, oci.WithProcessArgs("wc", "-l"))
	k := c.start(cio.NewCreator(cio.WithStreams(strings.NewReader("one\ntwo\n"), &out, io.Discard)))
	// The stream's end reaches no process before the client says so, as nerdctl does when its own ends.
	must(t, k.CloseIO(c.ctx, containerd.WithStdinCloser))
	k.wantExit(0)
	k.delete()
	if strings.TrimSpace(out.String()) != "2" {
		t.Errorf("output %q", out.String())
	}
}
