// Package pty plays the person at a client's terminal. It never looks into a container.
package pty

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/console"

	"vminit/tests/clients/internal/world"
)

// Screen is a terminal's other side: what a person types and sees.
type Screen struct {
	t      *testing.T
	master console.Console
	lines  *bufio.Reader
}

// New makes a terminal of the given size, in raw mode, and answers the file that a program has of it as well. The
// test's end closes both.
func New(t *testing.T, height, width uint16) (*Screen, *os.File) {
	t.Helper()
	master, path, err := console.NewPty()
	must(t, err)
	t.Cleanup(func() { master.Close() })
	must(t, master.Resize(console.WinSize{Height: height, Width: width}))
	program, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { program.Close() })
	tty, err := console.ConsoleFromFile(program)
	must(t, err)
	must(t, tty.SetRaw())
	return &Screen{t, master, bufio.NewReader(master)}, program
}

// Give makes the terminal the program's own, with all its streams.
func Give(cmd *exec.Cmd, tty *os.File) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
}

// Types enters a line.
func (s *Screen) Types(line string) {
	s.t.Helper()
	s.Keys(line + "\n")
}

// Keys enters what is no line.
func (s *Screen) Keys(keys string) {
	s.t.Helper()
	_, err := io.WriteString(s.master, keys)
	must(s.t, err)
}

// Shows waits for a line that says just this.
func (s *Screen) Shows(want string) {
	s.t.Helper()
	found := make(chan error, 1)
	go func() {
		for {
			line, err := s.lines.ReadString('\n')
			if err != nil || strings.TrimRight(line, "\r\n") == want {
				found <- err
				return
			}
		}
	}()
	world.Eventually(s.t, "the terminal shows "+want, func() bool { return len(found) == 1 })
	must(s.t, <-found)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
