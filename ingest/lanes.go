package ingest

import (
	"context"
	"errors"
	"sync"
)

// Errors of a lane or gate that is full.
var (
	errBusy   = errors.New("vehicle busy") // the bound per vehicle is met
	errFull   = errors.New("queue full")   // the bound of all vehicles together is met
	errClosed = errors.New("stopping")
)

// gate lets one request of a vehicle through at a time, in order of arrival, so that records of a vehicle reach the log
// and the predictor in the same order. Waiters per vehicle are bounded; vehicles do not wait for each other.
type gate struct {
	perKey int

	mu    sync.Mutex
	queue map[string][]chan struct{} // first is inside, others wait
}

func newGate(perKey int) *gate { return &gate{perKey: perKey, queue: map[string][]chan struct{}{}} }

// enter waits for its turn. It returns errBusy at once when too many wait already.
func (g *gate) enter(ctx context.Context, key string) error {
	g.mu.Lock()
	waiters := g.queue[key]
	if len(waiters) >= g.perKey {
		g.mu.Unlock()
		return errBusy
	}
	turn := make(chan struct{})
	g.queue[key] = append(waiters, turn)
	g.mu.Unlock()
	if len(waiters) == 0 {
		return nil
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.forget(key, turn)
		return ctx.Err()
	}
}

// forget takes a waiter out who gave up. When its turn came meanwhile, the next one gets it.
func (g *gate) forget(key string, turn chan struct{}) {
	g.mu.Lock()
	for i, w := range g.queue[key] {
		if w == turn && i > 0 {
			g.queue[key] = append(g.queue[key][:i:i], g.queue[key][i+1:]...)
			g.mu.Unlock()
			return
		}
	}
	g.mu.Unlock()
	g.leave(key)
}

// leave hands the turn to the next waiter.
func (g *gate) leave(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	rest := g.queue[key][1:]
	if len(rest) == 0 {
		delete(g.queue, key)
		return
	}
	g.queue[key] = rest
	close(rest[0])
}

// lanes holds work per vehicle: one vehicle's items are done in order and never at the same time, different vehicles'
// at once, so that a slow answer for one holds up nobody else while a worker is free. Both the items of one vehicle
// and those of all are bounded.
type lanes[T any] struct {
	perKey, capacity int
	// ready holds each lane that has items and no worker, once. Such a lane has an item, so capacity bounds them too and
	// a send never blocks.
	ready chan *lane[T]

	mu      sync.Mutex // guards what follows
	byKey   map[string]*lane[T]
	waiting int
	busy    int // lanes that a worker holds
	closed  bool
	idle    chan struct{} // closed when closed, and nothing waits or runs
}

type lane[T any] struct {
	key   string
	items []T
}

func newLanes[T any](perKey, capacity int) *lanes[T] {
	return &lanes[T]{
		perKey: perKey, capacity: capacity,
		ready: make(chan *lane[T], capacity), byKey: map[string]*lane[T]{}, idle: make(chan struct{}),
	}
}

// push queues an item, or says at once why not: errBusy, errFull or errClosed.
func (l *lanes[T]) push(key string, item T) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln, known := l.byKey[key]
	switch {
	case l.closed:
		return errClosed
	case l.waiting >= l.capacity:
		return errFull
	case known && len(ln.items) >= l.perKey:
		return errBusy
	case !known:
		ln = &lane[T]{key: key}
		l.byKey[key] = ln
		l.ready <- ln
	}
	ln.items = append(ln.items, item)
	l.waiting++
	return nil
}

// work does items until the lanes are closed and empty.
func (l *lanes[T]) work(do func(T)) {
	for {
		select {
		case ln := <-l.ready:
			item, ok := l.take(ln)
			if ok {
				do(item)
			}
			l.release(ln)
		case <-l.idle:
			return
		}
	}
}

func (l *lanes[T]) take(ln *lane[T]) (item T, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy++
	if len(ln.items) == 0 { // dropAll was faster
		return item, false
	}
	item = ln.items[0]
	ln.items = ln.items[1:]
	l.waiting--
	return item, true
}

func (l *lanes[T]) release(ln *lane[T]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	if len(ln.items) > 0 {
		l.ready <- ln
	} else {
		delete(l.byKey, ln.key)
	}
	l.checkIdle()
}

// close refuses new items; what waits is still done. The channel that it returns is closed when nothing is left.
func (l *lanes[T]) close() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.checkIdle()
	}
	return l.idle
}

// dropAll takes away what waits and returns how much it was.
func (l *lanes[T]) dropAll() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.waiting
	for _, ln := range l.byKey {
		ln.items = nil
	}
	l.waiting = 0
	l.checkIdle()
	return n
}

// checkIdle is called with mu held.
func (l *lanes[T]) checkIdle() {
	if !l.closed || l.waiting > 0 || l.busy > 0 {
		return
	}
	select {
	case <-l.idle:
	default:
		close(l.idle)
	}
}

// depth is the number of items that wait.
func (l *lanes[T]) depth() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}
