package ingest

import (
	"fmt"
	"strconv"
	"strings"
)

// maxSpans bounds the memory of one vehicle's boot: a vehicle that counts one by one needs one span, and twice the
// default number of records in a batch lets any batch be repeated even by one that counts in leaps.
const maxSpans = 2 * defaultMaxRecords

// Seen remembers which sequence numbers of one boot are in the log, as a sorted list of spans without gaps. A number
// may come late or twice and is still told apart. Memory is bounded: what falls below the oldest of 512 spans is
// forgotten, and refused rather than guessed at. The zero value has seen nothing.
type Seen struct {
	spans []span
	// floor: numbers below it are forgotten.
	floor uint64
}

// span is first to last, both included.
type span struct{ first, last uint64 }

// Add marks a number as seen. Fresh is false when it was seen before. A forgotten number is ErrRegression.
func (s *Seen) Add(seq uint64) (fresh bool, err error) {
	i := len(s.spans) // spans[:i] begin at or below seq
	for i > 0 && s.spans[i-1].first > seq {
		i--
	}
	if i > 0 && seq <= s.spans[i-1].last {
		return false, nil
	}
	if seq < s.floor {
		return false, fmt.Errorf("adding sequence number %d below %d: %w", seq, s.floor, ErrRegression)
	}
	s.insert(i, seq)
	return true, nil
}

// insert puts seq between spans[i-1] and spans[i], growing or joining them where they touch.
func (s *Seen) insert(i int, seq uint64) {
	left := i > 0 && s.spans[i-1].last+1 == seq
	right := i < len(s.spans) && s.spans[i].first == seq+1
	switch {
	case left && right:
		s.spans[i-1].last = s.spans[i].last
		s.spans = append(s.spans[:i], s.spans[i+1:]...)
	case left:
		s.spans[i-1].last = seq
	case right:
		s.spans[i].first = seq
	default:
		s.spans = append(s.spans, span{})
		copy(s.spans[i+1:], s.spans[i:])
		s.spans[i] = span{seq, seq}
	}
	if len(s.spans) > maxSpans {
		s.floor = s.spans[0].last + 1
		s.spans = append(s.spans[:0], s.spans[1:]...)
	}
}

// Last is the highest number seen; ok is false when there is none.
func (s *Seen) Last() (last uint64, ok bool) {
	if len(s.spans) == 0 {
		return 0, false
	}
	return s.spans[len(s.spans)-1].last, true
}

// Clone returns a copy that shares nothing.
func (s Seen) Clone() Seen {
	s.spans = append([]span(nil), s.spans...)
	return s
}

// String writes "floor;first-last,first-last", which ParseSeen reads.
func (s Seen) String() string {
	dst := strconv.AppendUint(nil, s.floor, 10)
	sep := byte(';')
	for _, sp := range s.spans {
		dst = append(dst, sep)
		dst = strconv.AppendUint(dst, sp.first, 10)
		dst = append(dst, '-')
		dst = strconv.AppendUint(dst, sp.last, 10)
		sep = ','
	}
	return string(dst)
}

// ParseSeen reads what String wrote and refuses anything out of order.
func ParseSeen(text string) (Seen, error) {
	head, rest, some := strings.Cut(text, ";")
	floor, err := strconv.ParseUint(head, 10, 64)
	if err != nil {
		return Seen{}, fmt.Errorf("reading seen numbers, floor %q: %w", head, err)
	}
	out := Seen{floor: floor}
	for part := range strings.SplitSeq(rest, ",") {
		if !some {
			break
		}
		sp, err := parseSpan(part)
		if err != nil {
			return Seen{}, err
		}
		// Spans that touch would be one span, so between two of them lies at least one number.
		n := len(out.spans)
		if n == maxSpans || sp.first < out.floor || (n > 0 && (sp.first == 0 || sp.first-1 <= out.spans[n-1].last)) {
			return Seen{}, fmt.Errorf("reading seen numbers: span %q is out of order or one too many", part)
		}
		out.spans = append(out.spans, sp)
	}
	return out, nil
}

func parseSpan(text string) (span, error) {
	a, b, _ := strings.Cut(text, "-")
	first, err := strconv.ParseUint(a, 10, 64)
	if err != nil {
		return span{}, fmt.Errorf("reading span %q: %w", text, err)
	}
	last, err := strconv.ParseUint(b, 10, 64)
	if err != nil || last < first {
		return span{}, fmt.Errorf("reading span %q: expected first-last", text)
	}
	return span{first, last}, nil
}
