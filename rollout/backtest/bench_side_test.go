package backtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// defaultPlan is what a Rollout gets that says nothing but its steps.
func defaultPlan() rollout.Plan {
	p := errorsPlan(5)
	p.Steps = []rollout.Step{{Weight: 5, Hold: 2 * time.Minute}, {Weight: 25, Hold: 5 * time.Minute}, {Weight: 50, Hold: 5 * time.Minute}}
	p.Gates[0].Tolerance = 0.01
	p.Cap, p.FalseAlarm, p.Miss = 2*time.Hour, 0.01, 0.05
	return p
}

// outcomes are how the runs of one judge ended.
type outcomes struct {
	promoted, rolledBack    tally
	toPromotion, toRollback sample
}

func (o *outcomes) add(ending Ending, after time.Duration) {
	o.promoted.add(ending == Promoted)
	o.rolledBack.add(ending == RolledBack)
	switch ending {
	case Promoted:
		o.toPromotion.add(after)
	case RolledBack:
		o.toRollback.add(after)
	case Paused, Unfinished:
	}
}

// times are those of an outcome.
func (o *outcomes) times(e Ending) sample {
	if e == Promoted {
		return o.toPromotion
	}
	return o.toRollback
}

// passage plays a peer's run of the traffic, a check a minute.
func passage(p peer, traffic Traffic, n int) (Ending, time.Duration) {
	plan := defaultPlan()
	_, sim := trial(traffic, plan, n)
	var m minutes
	for start := t0; ; start = start.Add(interval) {
		end := start.Add(interval)
		b, _ := sim.Block(start, end, p.weight())
		w, ok := m.add(b)
		if !ok {
			continue
		}
		switch p.check(w) {
		case rollBack:
			return RolledBack, end.Sub(t0)
		case promote:
			return Promoted, end.Sub(t0)
		case goOn:
		}
		if end.Sub(t0) > 24*time.Hour {
			return Unfinished, end.Sub(t0)
		}
	}
}

// compare plays the runs of a traffic under every judge; each judge's own decisions set its weights.
func compare(traffic Traffic, runs, first int) map[string]*outcomes {
	out := map[string]*outcomes{"Siskin": {}}
	for n := first; n < first+runs; n++ {
		plan := defaultPlan()
		id, sim := trial(traffic, plan, n)
		x := Replay(Options{Plan: plan, RunID: id, Start: t0}, sim)
		out["Siskin"].add(x.Ending, x.End.Sub(x.Start))
		for name, p := range peers() {
			if out[name] == nil {
				out[name] = &outcomes{}
			}
			out[name].add(passage(p, traffic, n))
		}
	}
	return out
}

var judgeNames = append([]string{"Siskin"}, peerNames...)

const sideText = "Siskin with a plan of defaults (5, 25 and 50 % for at least 2, 5 and 5 minutes; falseAlarm 0.01, miss 0.05, margin 1.5, tolerance 1 %, cap 2 h); " +
	"Flagger with interval 1 m, threshold 5, 25 steps of 2 %, success rate at least 99 %; Argo Rollouts on the same steps with the same condition and failureLimit 3; " +
	"Kayenta's judge on the same steps, error rate of canary and stable once a minute, judged every 5 minutes. Each on the same traffic; its own decisions set its weights."

// benchHealthySideBySide: healthy services under each judge.
func benchHealthySideBySide(t *testing.T) *section {
	s := &section{
		title: "Side by side: healthy services",
		text:  sideText + " \"Waits\" is the share that neither was promoted nor rolled back: it is paused for somebody at the cap.",
		head:  []string{"errors", "requests/s", "judge", "runs", "false rollbacks", "promoted", "time to promotion", "waits"},
	}
	i := 0
	for _, c := range []struct {
		name   string
		errors float64
		idle   []Period
		rates  []float64
	}{
		{"0.1 %", 0.001, nil, []float64{5, 50, 500}},
		{"0.5 %", 0.005, nil, []float64{5, 50, 500}},
		{"0.9 %", 0.009, nil, []float64{5, 50, 500}},
		{"0.5 %, idle from minute 3 to 33", 0.005, []Period{{3 * time.Minute, 33 * time.Minute}}, []float64{50}},
	} {
		for _, rate := range c.rates {
			i++
			if !*benchJudge && rate != 50 {
				continue
			}
			traffic := Traffic{Requests: Constant(rate), Errors: Constant(c.errors), Idle: c.idle}
			all := compare(traffic, many(300, 10), 700_000+10_000*i)
			for _, name := range judgeNames {
				o := all[name]
				waits := tally{o.promoted.of - o.promoted.n - o.rolledBack.n, o.promoted.of}
				s.row(c.name, fmt.Sprint(rate), name, fmt.Sprint(o.promoted.of), o.rolledBack.String(), o.promoted.String(), o.toPromotion.String(), fmt.Sprintf("%.2f", waits.share().Share))
			}
			if all["Siskin"].rolledBack.above(0.01) {
				t.Errorf("%s at %g/s: false rollbacks %s, want at most 0.01", c.name, rate, all["Siskin"].rolledBack)
			}
		}
	}
	return s
}

// benchBadSideBySide: bad versions under each judge.
func benchBadSideBySide(t *testing.T) *section {
	s := &section{
		title: "Side by side: bad versions",
		text:  "The same judges. A miss is a bad version that was promoted.",
		head:  []string{"errors", "requests/s", "judge", "runs", "missed", "rolled back", "time to rollback", "95 % within"},
	}
	i := 0
	for _, c := range []struct {
		stable, canary float64
		rates          []float64
	}{
		{0.001, 0.008, []float64{5, 50, 500}},
		{0.005, 0.02, []float64{5, 50, 500}},
		{0.005, 0.05, []float64{5, 50, 500}},
		{0.02, 0.04, []float64{50, 500}},
	} {
		for _, rate := range c.rates {
			i++
			if !*benchJudge && rate != 50 {
				continue
			}
			traffic := Traffic{Requests: Constant(rate), Errors: Constant(c.stable), Fault: Fault{Errors: c.canary / c.stable}}
			all := compare(traffic, many(300, 10), 1_000_000+10_000*i)
			for _, name := range judgeNames {
				o := all[name]
				s.row(fmt.Sprintf("%s to %s", percentOf(c.stable), percentOf(c.canary)), fmt.Sprint(rate), name, fmt.Sprint(o.promoted.of), o.promoted.String(), o.rolledBack.String(),
					o.toRollback.String(), o.toRollback.p95())
			}
			if c.canary > 0.01 && all["Siskin"].promoted.above(0.05) {
				t.Errorf("%g to %g at %g/s: missed %s, want at most 0.05", c.stable, c.canary, rate, all["Siskin"].promoted)
			}
		}
	}
	return s
}
