package containerd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// copyFile is how `nerdctl cp` copies: tar at both ends, of which one sees the root of the task's process.
func copyFile(t *testing.T, fromFolder, name, toFolder string) {
	t.Helper()
	script := `tar -c -f - -C "$1" "$2" | tar -x -f - -C "$3"`
	out, err := exec.Command("sh", "-c", script, "cp", fromFolder, name, toFolder).CombinedOutput()
	if err != nil {
		t.Fatalf("copy %s from %s to %s: %v: %s", name, fromFolder, toFolder, err, out)
	}
}

func TestFilesAreCopiedBothWays(t *testing.T) {
	k := run(t, "echo from within >/tmp/out; exec sleep 1000")
	k.eventually("test -s /tmp/out")
	inside, folder := fmt.Sprintf("/proc/%d/root/tmp", k.Pid()), k.container.folder
	copyFile(t, inside, "out", folder)
	if got := k.container.read("out"); got != "from within\n" {
		t.Errorf("copied out: %q", got)
	}
	write(t, filepath.Join(folder, "in"), "from outside\n")
	copyFile(t, folder, "in", inside)
	if out, status := k.exec("cat /tmp/in"); out != "from outside\n" || status != 0 {
		t.Errorf("copied in: %q, status %d", out, status)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func TestVolumesAreSharedAndReadOnlyOnesRefuseWrites(t *testing.T) {
	folder := t.TempDir()
	must(t, os.Mkdir(filepath.Join(folder, "data"), 0o755))
	write(t, filepath.Join(folder, "data/old"), "old\n")
	write(t, filepath.Join(folder, "file"), "alone\n")
	k := run(t, "exec sleep 1000", oci.WithMounts([]specs.Mount{
		volume(folder+"/data", "/data", "rw"),
		volume(folder+"/data", "/fixed", "ro"),
		volume(folder+"/file", "/etc/alone", "rw"),
	}))
	for _, c := range []struct {
		script, out string
		status      uint32
	}{
		{"cat /data/old /fixed/old /etc/alone", "old\nold\nalone\n", 0},
		{"echo new >/data/new && echo changed >/etc/alone", "", 0},
		{"echo x >/fixed/old", "/bin/sh: can't create /fixed/old: Read-only file system\n", 1},
	} {
		if out, status := k.exec(c.script); out != c.out || status != c.status {
			t.Errorf("%s: output %q, status %d", c.script, out, status)
		}
	}
	for name, want := range map[string]string{"data/new": "new\n", "file": "changed\n", "data/old": "old\n"} {
		if got, _ := os.ReadFile(filepath.Join(folder, name)); string(got) != want {
			t.Errorf("%s outside: %q", name, got)
		}
	}
	write(t, filepath.Join(folder, "data/late"), "late\n")
	k.eventually("grep -qx late /data/late")
}

// volume is a mount as nerdctl writes it: of type "none".
func volume(source, destination, access string) specs.Mount {
	options := []string{"rbind", access, "rprivate"}
	return specs.Mount{Type: "none", Source: source, Destination: destination, Options: options}
}
