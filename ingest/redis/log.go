package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/siskin-dev/siskin/ingest"
)

// entry is a batch that waits for its group.
type entry struct {
	ctx    context.Context // the caller's: when it is over nobody waits for the answer
	batch  ingest.Batch
	result chan outcome // room for one
}

type outcome struct {
	appended ingest.Appended
	err      error
}

// Append implements ingest.Log. It waits until the batch's group is written, or fails with ingest.ErrUnavailable, or
// with ingest.ErrRegression when a record is older than what is remembered.
func (l *Log) Append(ctx context.Context, b ingest.Batch) (ingest.Appended, error) {
	e := &entry{ctx: ctx, batch: b, result: make(chan outcome, 1)}
	select {
	case l.queue <- e:
	case <-ctx.Done():
		return ingest.Appended{}, unavailable(ctx.Err())
	case <-l.done:
		return ingest.Appended{}, unavailable(context.Canceled)
	}
	select {
	case o := <-e.result:
		return o.appended, o.err
	case <-ctx.Done():
		return ingest.Appended{}, unavailable(ctx.Err())
	case <-l.done:
	}
	select { // Run may have answered just before it returned
	case o := <-e.result:
		return o.appended, o.err
	default:
		return ingest.Appended{}, unavailable(context.Canceled)
	}
}

func unavailable(err error) error {
	return fmt.Errorf("writing to Redis: %w: %w", ingest.ErrUnavailable, err)
}

// Run writes groups until ctx ends; what is queued then is refused. It may run once.
func (l *Log) Run(ctx context.Context) error {
	defer close(l.done)
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-l.queue:
			group := l.gather(ctx, e)
			if err := l.commit(context.WithoutCancel(ctx), group); err != nil {
				// Whoever waits now would wait for the same failure: tell them at once.
				fail(append(group, l.drain()...), unavailable(err))
			}
		}
	}
}

// gather takes what comes within Linger of the first one, up to a group. At the end it takes what waits.
func (l *Log) gather(ctx context.Context, first *entry) []*entry {
	group := []*entry{first}
	timer := time.NewTimer(l.options.Linger)
	defer timer.Stop()
	for records := len(first.batch.Records); records < l.options.GroupRecords; {
		select {
		case e := <-l.queue:
			group = append(group, e)
			records += len(e.batch.Records)
		case <-timer.C:
			return group
		case <-ctx.Done():
			return group
		}
	}
	return group
}

func (l *Log) drain() []*entry {
	var all []*entry
	for {
		select {
		case e := <-l.queue:
			all = append(all, e)
		default:
			return all
		}
	}
}

// fail answers all that have no answer yet.
func fail(group []*entry, err error) {
	for _, e := range group {
		select {
		case e.result <- outcome{err: err}:
		default:
		}
	}
}
