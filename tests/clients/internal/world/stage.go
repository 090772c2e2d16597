// Package world makes the host that a client's tests run on: namespaces of its own, which end with the tests, and in
// them the daemons. It knows nothing of what a test does there.
package world

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// A test binary starts itself twice: the first, which `go test` started, makes the namespaces, PID 1 in them reaps
// what daemons leave behind, and its child runs the tests.
const (
	stageVar  = "VMINIT_CLIENTS_STAGE"
	folderVar = "VMINIT_CLIENTS_FOLDER"
	stageInit = "init"
	stageTest = "test"
)

// Main runs the tests of a package in a world of their own, after setup has started its daemons. It does not return.
func Main(m *testing.M, setup func(*World) error) {
	var status int
	var err error
	switch os.Getenv(stageVar) {
	case "":
		status, err = enter()
	case stageInit:
		status, err = reap()
	default:
		status, err = run(m, setup)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot", err)
		status = 1
	}
	os.Exit(status)
}

// enter makes the folder of the tests and the namespaces, and waits for PID 1 in them.
func enter() (int, error) {
	folder, err := os.MkdirTemp("", "vminit-clients-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	defer removeCgroups(filepath.Base(folder))
	// The parent-death signal comes when the thread ends that forked (prctl(2)).
	runtime.LockOSThread()
	cmd := again(stageInit, folder)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make namespaces (the tests run as root): %w", err)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-interrupted
		cmd.Process.Kill()
	}()
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), nil
}

// again is this very program in another stage.
func again(stage, folder string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageVar+"="+stage, folderVar+"="+folder)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// reap is PID 1: it prepares the mounts, starts the tests and collects every orphan until they end. The kernel then
// kills what is left.
func reap() (int, error) {
	if err := furnish(); err != nil {
		return 0, err
	}
	cmd := again(stageTest, os.Getenv(folderVar))
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait: %w", err)
		}
		if pid == cmd.Process.Pid {
			return status.ExitStatus(), nil
		}
	}
}

// furnish gives the namespaces what a host has: its own /proc, an empty /run, and a loopback device.
func furnish() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for kind, path := range map[string]string{"proc": "/proc", "tmpfs": "/run"} {
		if err := syscall.Mount(kind, path, kind, syscall.MS_NOSUID|syscall.MS_NODEV, ""); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
	}
	out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput()
	if err != nil {
		return fmt.Errorf("set lo up: %s", strings.TrimSpace(string(out)))
	}
	return nil
}

// run is the stage of the tests.
func run(m *testing.M, setup func(*World) error) (int, error) {
	w, err := newWorld(os.Getenv(folderVar))
	if err != nil {
		return 0, err
	}
	defer w.stopDaemons()
	// What a test starts is none of its stages.
	os.Unsetenv(stageVar)
	if err := setup(w); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
