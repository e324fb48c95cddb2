// Package process runs real programs for tests: it starts them, waits for what they are to do, and ends them with all that
// they started.
package process

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
// Answering how long for one answer.
const (
	patience  = 3 * time.Minute
	Answering = 10 * time.Second
)

// Process is a program that a test runs, in a process group of its own.
type Process struct {
	name, log string
	dir, path string
	env, args []string

	group int
	// ended is closed when the program has ended; err says how, and is read only then.
	ended  chan struct{}
	err    error
	killed atomic.Bool
}

// Run starts a program in the folder, where its log is kept, and stops it when the test ends. Env is added to the
// environment. What the program had to say is shown when the test fails.
func Run(tb testing.TB, dir, name, path string, env []string, args ...string) *Process {
	tb.Helper()
	p := &Process{name: name, log: filepath.Join(dir, name+".log"), dir: dir, path: path, env: env, args: args}
	p.Start(tb)
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

// Start starts the program again, which has ended.
func (p *Process) Start(tb testing.TB) {
	tb.Helper()
	if err := p.start(); err != nil {
		tb.Fatalf("starting %s: %v", p.name, err)
	}
}

// start starts the program. The program dies with this process, also when nothing is left to clean up: the kernel sees
// to that as long as the thread that started it is there, so one thread waits for it.
func (p *Process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...) //nolint:noctx // it lives until it is stopped
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, append(os.Environ(), p.env...), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.killed.Store(false)
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.group, p.ended = cmd.Process.Pid, ended
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

// Running is nil while the program runs; after that it says how it ended.
func (p *Process) Running() error {
	select {
	case <-p.ended:
		if p.err == nil {
			return fmt.Errorf("%s has ended", p.name)
		}
		return fmt.Errorf("%s has ended: %w", p.name, p.err)
	default:
		return nil
	}
}

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
