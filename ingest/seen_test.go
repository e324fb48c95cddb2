package ingest

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestSeenAgainstSet holds Seen to a plain set, for vehicles that deliver in order, shuffled, with gaps and twice.
func TestSeenAgainstSet(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var s Seen
		set := map[uint64]bool{}
		width := 1 + draw.Uint64N(800)
		for range 400 {
			seq := draw.Uint64N(width)
			fresh, err := s.Add(seq)
			if err != nil || fresh == set[seq] {
				t.Fatalf("adding %d to %s: fresh %v, %v", seq, s, fresh, err)
			}
			set[seq] = true
		}
		again, err := ParseSeen(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("wrote %q, read %q, %v", s, again, err)
		}
	}
}

// TestSeenForgets fills it with gaps: memory stays bounded, and what is forgotten is refused, never taken twice.
func TestSeenForgets(t *testing.T) {
	var s Seen
	for i := range uint64(3 * maxSpans) {
		if fresh, err := s.Add(2 * i); !fresh || err != nil {
			t.Fatalf("adding %d: %v, %v", 2*i, fresh, err)
		}
	}
	if len(s.spans) != maxSpans {
		t.Errorf("%d spans, want %d", len(s.spans), maxSpans)
	}
	for i := range uint64(3 * maxSpans) {
		fresh, err := s.Clone().addTo(2 * i)
		forgotten := i < 2*maxSpans
		if fresh || errors.Is(err, ErrRegression) != forgotten {
			t.Fatalf("adding %d again: %v, %v", 2*i, fresh, err)
		}
	}
	for gap := uint64(2*2*maxSpans) + 1; gap < 2*3*maxSpans-1; gap += 2 { // the gaps close, late but not lost
		if fresh, err := s.Add(gap); !fresh || err != nil {
			t.Fatalf("closing gap %d: %v, %v", gap, fresh, err)
		}
	}
	if len(s.spans) != 1 {
		t.Errorf("%d spans left in %s, want 1", len(s.spans), s)
	}
	if _, err := s.Add(1); !errors.Is(err, ErrRegression) {
		t.Errorf("a number is no longer forgotten since the gaps closed: %v", err)
	}
}

func (s Seen) addTo(seq uint64) (bool, error) { return s.Add(seq) }

func TestCloneSharesNothing(t *testing.T) {
	var s Seen
	for _, seq := range []uint64{1, 3, 5} {
		if _, err := s.Add(seq); err != nil {
			t.Fatal(err)
		}
	}
	before, c := s.String(), s.Clone()
	if _, err := c.Add(4); err != nil {
		t.Fatal(err)
	}
	if s.String() != before {
		t.Errorf("got %s, want %s", s, before)
	}
}

func TestParseSeenRefuses(t *testing.T) {
	for _, text := range []string{
		"", ";", "x", "0;", "0;1", "0;1-", "0;-1", "0;2-1", "0;1-2,2-3", "0;1-2,3-4", "0;4-5,1-2", "5;1-2", "0;1-2,", "0;1-2;3-4", "-1",
		"0;" + strings.TrimSuffix(strings.Repeat("1-1,", 2), ","),
	} {
		if s, err := ParseSeen(text); err == nil {
			t.Errorf("%q was read as %s", text, s)
		}
	}
}

// FuzzParseSeen reads foreign text: what it takes it writes back alike, and may be added to.
func FuzzParseSeen(f *testing.F) {
	f.Add("0;1-2,4-9", uint64(3))
	f.Add("7", uint64(3))
	f.Add("0;0-18446744073709551615", uint64(0))
	f.Fuzz(func(t *testing.T, text string, seq uint64) {
		s, err := ParseSeen(text)
		if err != nil {
			return
		}
		if again, err := ParseSeen(s.String()); err != nil || again.String() != s.String() {
			t.Fatalf("read %q as %s and that as %s, %v", text, s, again, err)
		}
		if _, err := s.Add(seq % maxSeq); err != nil {
			return
		}
		if fresh, err := s.Add(seq % maxSeq); fresh || (err != nil && !errors.Is(err, ErrRegression)) {
			t.Fatalf("%s: took %d twice", s, seq%maxSeq)
		}
	})
}
