package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A loaded machine is slow, not wrong: patience is how long a program may take for anything that is waited for, and
// answering how long for one answer.
const (
	patience  = 60 * time.Second
	answering = 10 * time.Second
)

// Process is a program that a test runs, in a process group of its own.
type Process struct {
	name  string
	log   string
	group int
	// ended is closed when the program has ended; err says how, and is read only then.
	ended  chan struct{}
	err    error
	killed atomic.Bool
}

// run starts a program in the folder, where its log is kept, and stops it when the test ends. Env is added to the
// environment. What the program had to say is shown when the test fails.
func run(tb testing.TB, dir, name, path string, env []string, args ...string) *Process {
	tb.Helper()
	p := &Process{name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	if err := p.start(dir, path, env, args); err != nil {
		tb.Fatalf("starting %s: %v", name, err)
	}
	tb.Cleanup(func() {
		said, err := os.ReadFile(p.log) // before it speaks of its end
		if err := p.Stop(); err != nil {
			tb.Errorf("stopping %s: %v", name, err)
		}
		if tb.Failed() && err == nil {
			tb.Logf("%s said, at the end of %d bytes:\n%s", name, len(said), said[max(0, len(said)-4096):])
		}
	})
	return p
}

// start starts the program. The program dies with this process, also when nothing is left to clean up: the kernel sees
// to that as long as the thread that started it is there, so one thread waits for it.
func (p *Process) start(dir, path string, env, args []string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args...) //nolint:noctx // it lives until it is stopped
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.group = cmd.Process.Pid
	return nil
}

// Stop asks the program to end, and waits for it. One that does not end in time is killed with all that it started, which
// is an error; so is an exit status other than that of a clean end. It may be called again.
func (p *Process) Stop() error {
	select {
	case <-p.ended: // its number may be another program's by now
		return p.badEnd()
	default:
		_ = syscall.Kill(p.group, syscall.SIGTERM) // it may be ending by itself: then its exit status says so
	}
	select {
	case <-p.ended:
		return p.badEnd()
	case <-time.After(patience):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of being asked to", p.name, patience)
	}
}

// Kill ends the program and all that it started, at once.
func (p *Process) Kill() {
	p.killed.Store(true)
	_ = syscall.Kill(-p.group, syscall.SIGKILL) // it may be gone
	<-p.ended
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// badEnd is nil for an exit status of 0, for the end by the signal that asked for it, as etcd ends, and after Kill.
func (p *Process) badEnd() error {
	if p.err == nil || p.killed.Load() {
		return nil
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGTERM {
			return nil
		}
	}
	return fmt.Errorf("%s ended: %w", p.name, p.err)
}
