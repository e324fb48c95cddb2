package energy

import (
	"math"
	"testing"
	"time"
)

// epoch is when simulated time begins.
var epoch = time.Unix(1_700_000_000, 0)

func TestCounterDelta(t *testing.T) {
	cases := map[string]struct {
		current, previous, max, want uint64
	}{
		"Forward":          {25, 20, 100, 5},
		"Wrap":             {10, 90, 100, 20},
		"Still":            {0, 0, 100, 0},
		"BackWithoutMax":   {10, 20, 0, 0},
		"WrapSmall":        {2, 8, 10, 4},
		"ForwardToMax":     {100, 90, 100, 10},
		"WrapFromMax":      {10, 100, 100, 10},
		"MaxIsZero":        {0, 100, 100, 0},
		"RealRange":        {100, 262143328800, 262143328850, 150},
		"RangeOfServerAMD": {13, 65532610987, 65532610987, 13},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var c Counter
			c.Observe(epoch, tc.previous, Limits{Range: tc.max})
			if got, outcome := c.Observe(epoch.Add(time.Second), tc.current, Limits{Range: tc.max}); got != tc.want {
				t.Errorf("%d after %d of %d: got %d (%s), want %d", tc.current, tc.previous, tc.max, got, outcome, tc.want)
			}
		})
	}
}

// observation is a step of a sequence: the value read after some time, and what must come of it.
type observation struct {
	after   time.Duration
	value   uint64
	delta   uint64
	outcome Outcome
}

func TestCounterSequences(t *testing.T) {
	guarded := Limits{Range: 1000, PerSecond: 50}
	cases := map[string]struct {
		reason string
		lim    Limits
		steps  []observation
	}{
		"BackwardIsNoWrap": {"900 J in 5 s is 180 W of 50 W: the counter was reset, and goes on from there", guarded, []observation{
			{0, 500, 0, First}, {5 * time.Second, 400, 0, Reset}, {5 * time.Second, 407, 7, Rebased}, {time.Second, 409, 2, Counted},
		}},
		"GlitchBack": {"a single low value costs nothing and counts nothing twice", guarded, []observation{
			{0, 500, 0, First}, {5 * time.Second, 400, 0, Reset}, {5 * time.Second, 510, 10, Counted},
		}},
		"GlitchForward": {"a single high value costs nothing", guarded, []observation{
			{0, 100, 0, First}, {time.Second, 990, 0, Jump}, {time.Second, 120, 20, Counted},
		}},
		"JumpForReal": {"a counter that was set forward goes on from there", guarded, []observation{
			{0, 100, 0, First}, {time.Second, 900, 0, Jump}, {time.Second, 905, 5, Rebased}, {time.Second, 915, 10, Counted},
		}},
		"Sentinel": {"the value that means nothing is skipped", Limits{}, []observation{
			{0, 100, 0, First}, {time.Second, 4294967295000, 0, Sentinel}, {time.Second, math.MaxUint64, 0, Sentinel}, {time.Second, 130, 30, Counted},
		}},
		"SentinelFirst": {"counting does not begin at a value that means nothing", guarded, []observation{
			{0, math.MaxInt64, 0, Sentinel}, {time.Second, 7, 0, First},
		}},
		"BeyondRange": {"no counter holds more than its range", guarded, []observation{
			{0, 100, 0, First}, {time.Second, 1001, 0, Sentinel}, {time.Second, 130, 30, Counted},
		}},
		"LateReader": {"30 s late, within what 50 W allow", guarded, []observation{
			{0, 100, 0, First}, {30 * time.Second, 900, 800, Counted},
		}},
		"LateAfterReset": {"a late reader does not take a reset for a wrap when the refused reading explains it better", guarded, []observation{
			{0, 500, 0, First}, {5 * time.Second, 400, 0, Reset}, {30 * time.Second, 420, 20, Rebased},
		}},
		"Stuck": {"a stuck counter measures nothing, then everything", guarded, []observation{
			{0, 500, 0, First}, {5 * time.Second, 500, 0, Counted}, {5 * time.Second, 640, 140, Counted},
		}},
		"ClockBack": {"a clock that steps back allows no more than the slack", guarded, []observation{
			{0, 500, 0, First}, {-time.Hour, 506, 0, Jump}, {2 * time.Hour, 507, 7, Counted},
		}},
		"NodePackage": {"package of 200 J over 14 s; 225 J reads as 25", Limits{Range: 200, PerSecond: 200}, []observation{
			{0, 20, 0, First}, {time.Second, 70, 50, Counted}, {3 * time.Second, 145, 75, Counted}, {10 * time.Second, 25, 80, Counted},
		}},
		"NodeCore": {"core of 150 J over the same time", Limits{Range: 150, PerSecond: 200}, []observation{
			{0, 10, 0, First}, {time.Second, 35, 25, Counted}, {3 * time.Second, 80, 45, Counted}, {10 * time.Second, 110, 30, Counted},
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var c Counter
			at := epoch
			for i, s := range tc.steps {
				at = at.Add(s.after)
				if delta, outcome := c.Observe(at, s.value, tc.lim); delta != s.delta || outcome != s.outcome {
					t.Errorf("%s: step %d, %d: got %d %s, want %d %s", tc.reason, i, s.value, delta, outcome, s.delta, s.outcome)
				}
			}
		})
	}
}

// TestWrapTimes checks the sampling advice against the golden ranges: how long a zone takes to wrap at full power.
func TestWrapTimes(t *testing.T) {
	cases := map[string]struct {
		unit, wantRange uint64
		wantSeconds     map[uint64]uint64
	}{
		"Package":    {61035, 262143328850, map[uint64]uint64{100: 2621, 280: 936, 400: 655}},
		"AMD":        {15258, 65532610987, map[uint64]uint64{100: 655, 280: 234, 400: 164}},
		"ServerDRAM": {15300, 65712999613, map[uint64]uint64{100: 657, 280: 235, 400: 164}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := uint64(math.MaxUint32) * tc.unit / 1000; got != tc.wantRange {
				t.Errorf("range of unit %d: got %d, want %d", tc.unit, got, tc.wantRange)
			}
			for watts, want := range tc.wantSeconds {
				lim := Limits{Range: tc.wantRange, PerSecond: watts * 1e6}
				var c Counter
				c.Observe(epoch, 0, lim)
				if _, o := c.Observe(epoch.Add(time.Duration(want+1)*time.Second), tc.wantRange, lim); o != Counted {
					t.Errorf("%d W: the whole range in %d s: got %s, want Counted", watts, want+1, o)
				}
				c.Start(epoch, 0)
				if _, o := c.Observe(epoch.Add(time.Duration(want-2)*time.Second), tc.wantRange, lim); o != Jump {
					t.Errorf("%d W: the whole range in %d s: got %s, want Jump", watts, want-2, o)
				}
			}
		})
	}
}

// FuzzCounter holds that no increment exceeds what the rate allows over the time since the start, and that a refusal
// adds nothing.
func FuzzCounter(f *testing.F) {
	f.Add(uint64(500), uint64(400), uint64(407), uint64(1000), uint64(50), uint16(5000))
	f.Add(uint64(90), uint64(10), uint64(20), uint64(100), uint64(0), uint16(1))
	f.Fuzz(func(t *testing.T, a, b, d, limit, perSecond uint64, ms uint16) {
		lim := Limits{Range: limit, PerSecond: perSecond}
		var c Counter
		at := epoch
		for i, v := range []uint64{a, b, d} {
			delta, outcome := c.Observe(at, v, lim)
			if delta > 0 && outcome != Counted && outcome != Rebased {
				t.Fatalf("step %d of %d, %d, %d (%+v): %s adds %d", i, a, b, d, lim, outcome, delta)
			}
			if most := rateTimes(perSecond, at.Sub(epoch)+guardSlack); perSecond > 0 && delta > most {
				t.Fatalf("step %d of %d, %d, %d (%+v): adds %d, at most %d", i, a, b, d, lim, delta, most)
			}
			at = at.Add(time.Duration(ms) * time.Millisecond)
		}
	})
}
