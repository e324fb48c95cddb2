package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/siskin-dev/siskin/ingest"
)

// attempts is how often a group is tried: another ingest may write the same vehicle at the same time, and an idle
// connection may turn out to be dead.
const attempts = 3

// commit writes a group in one transaction and answers its entries. When it returns an error none of them is answered.
func (l *Log) commit(ctx context.Context, group []*entry) error {
	group = slices.DeleteFunc(group, func(e *entry) bool { return e.ctx.Err() != nil })
	if len(group) == 0 {
		return nil
	}
	var err error
	for range attempts {
		var sent bool
		var p *plan
		p, sent, err = l.try(ctx, group)
		switch {
		case err == nil:
			for i, e := range group {
				e.result <- p.outcomes[i]
			}
			return nil
		case errors.Is(err, redis.TxFailedErr): // not carried out: somebody else wrote one of the vehicles
		case sent, isReply(err), isTimeout(err):
			return err // carried out or not, nobody knows: the vehicles will ask again
		}
	}
	return err
}

// try reads what was seen, plans, and writes the plan unless what was seen has changed meanwhile. Sent says that the
// transaction may have reached Redis.
func (l *Log) try(ctx context.Context, group []*entry) (p *plan, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.options.timeout)
	defer cancel()
	keys := seenKeys(group)
	err = l.client.Watch(ctx, func(tx *redis.Tx) error {
		seen, err := l.readSeen(ctx, tx, keys)
		if err != nil {
			return err
		}
		p = l.plan(group, seen)
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			p.write(ctx, pipe, l.options)
			sent = pipe.Len() > 0
			return nil
		})
		return err
	}, keys...)
	if err != nil {
		return nil, sent, fmt.Errorf("writing a group of %d: %w", len(group), err)
	}
	return p, sent, nil
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// seenKeys lists the keys of the group's boots, each once.
func seenKeys(group []*entry) []string {
	keys := make([]string, 0, len(group))
	for _, e := range group {
		keys = append(keys, seenKey(e.batch.Vehicle, e.batch.Boot))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// readSeen reads the sequence numbers of each key, and makes sure that the stream is one: in a transaction, a command
// that fails does not stop the others, and a number must never be marked as seen whose record is not in the stream.
func (l *Log) readSeen(ctx context.Context, tx *redis.Tx, keys []string) (map[string]ingest.Seen, error) {
	var values *redis.SliceCmd
	var kind *redis.StatusCmd
	_, err := tx.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		kind = pipe.Type(ctx, l.options.Stream)
		values = pipe.MGet(ctx, keys...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading sequence numbers: %w", err)
	}
	if k := kind.Val(); k != "stream" && k != "none" {
		return nil, fmt.Errorf("reading key %q: expected a stream, not a %s", l.options.Stream, k)
	}
	seen := make(map[string]ingest.Seen, len(keys))
	for i, v := range values.Val() {
		text, ok := v.(string)
		if !ok {
			continue // nothing seen yet
		}
		s, err := ingest.ParseSeen(text)
		if err != nil {
			return nil, fmt.Errorf("reading key %q: %w", keys[i], err)
		}
		seen[keys[i]] = s
	}
	return seen, nil
}

// plan is what a group's transaction writes, and what its entries are told when it succeeds.
type plan struct {
	outcomes []outcome // one per entry
	adds     [][]any   // stream entries, field by field
	states   map[string]map[string]any
	seen     map[string]ingest.Seen
}

// plan decides for each record whether it is new. A batch that is refused leaves no trace.
func (l *Log) plan(group []*entry, seen map[string]ingest.Seen) *plan {
	p := &plan{
		outcomes: make([]outcome, len(group)),
		states:   map[string]map[string]any{},
		seen:     map[string]ingest.Seen{},
	}
	for i, e := range group {
		key := seenKey(e.batch.Vehicle, e.batch.Boot)
		s := seen[key].Clone()
		before, some := s.Last()
		fresh, err := admit(&s, e.batch.Records)
		if err != nil {
			p.outcomes[i].err = err
			continue
		}
		for j, rec := range e.batch.Records {
			if !fresh[j] {
				continue
			}
			p.adds = append(p.adds, l.streamFields(e.batch, rec))
			if late := rec.Sequenced && some && rec.Seq < before; !late {
				p.keep(e.batch, rec, l.options.Schema)
			}
		}
		last, _ := s.Last()
		p.outcomes[i].appended = ingest.Appended{Fresh: fresh, LastSeq: last}
		seen[key] = s
		if slices.ContainsFunc(e.batch.Records, func(r ingest.Record) bool { return r.Sequenced }) {
			p.seen[key] = s
		}
	}
	return p
}

// admit marks the records as seen and tells which are new. A record without a number always is.
func admit(s *ingest.Seen, records []ingest.Record) ([]bool, error) {
	fresh := make([]bool, len(records))
	for i, rec := range records {
		if !rec.Sequenced {
			fresh[i] = true
			continue
		}
		var err error
		if fresh[i], err = s.Add(rec.Seq); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

func (l *Log) streamFields(b ingest.Batch, rec ingest.Record) []any {
	data := l.options.Schema.AppendJSON(make([]byte, 0, 1024), rec.Values)
	fields := []any{"vehicle", b.Vehicle, "boot", b.Boot, "ts", rec.Time.Format(time.RFC3339Nano), "data", data}
	if rec.Sequenced {
		fields = append(fields, "seq", strconv.FormatUint(rec.Seq, 10))
	}
	return fields
}

// keep merges a record into the vehicle's last state: a signal that is not in the record keeps its value.
func (p *plan) keep(b ingest.Batch, rec ingest.Record, schema *ingest.Schema) {
	key := stateKey(b.Vehicle)
	state, ok := p.states[key]
	if !ok {
		state = map[string]any{}
		p.states[key] = state
	}
	for i, v := range rec.Values {
		if v == v { // not NaN: measured
			state[schema.Signal(i).Path] = strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	state["boot"], state["ts"] = b.Boot, rec.Time.Format(time.RFC3339Nano)
	if rec.Sequenced {
		state["seq"] = strconv.FormatUint(rec.Seq, 10)
	}
}

// write queues the plan's commands.
func (p *plan) write(ctx context.Context, pipe redis.Pipeliner, o Options) {
	for _, fields := range p.adds {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: o.Stream, MaxLen: o.MaxLen, Approx: true, Values: fields})
	}
	for key, state := range p.states {
		pipe.HSet(ctx, key, state)
		pipe.Expire(ctx, key, o.StateTTL)
	}
	for key, s := range p.seen {
		pipe.Set(ctx, key, s.String(), o.SeenTTL)
	}
}
