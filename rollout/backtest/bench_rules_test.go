package backtest

import (
	"math"
	"math/rand/v2"
	"testing"
)

// rolledBack says whether a rule rolls back within a number of checks of windows with fixed requests. A rule that would
// promote is asked again, since the figures to compare with are for a fixed number of checks.
func rolledBack(p peer, checks int, draw func() window) bool {
	for range checks {
		if p.check(draw()) == rollBack {
			return true
		}
	}
	return false
}

// fixedWindows draws windows of n requests of either version.
func fixedWindows(r *rand.Rand, n, stable, canary float64) func() window {
	return func() window {
		return window{counts{n, binomial(r, n, stable)}, counts{n, binomial(r, n, canary)}}
	}
}

// TestThresholdRules compares the rules of Flagger and Argo Rollouts with what follows from the binomial distribution: for
// independent windows they roll back when 5, or 4, of all checks fail. Flagger's own figures are the published ones for
// success rate >= 99 % and 5 failed checks. One check more is asked for, since Flagger acts at the next tick.
func TestThresholdRules(t *testing.T) {
	const runs = 4000
	for _, c := range []struct {
		requests, rate float64
		allowed        float64 // errors with which a window still passes
		fails          float64 // share of windows
		in25, in60     float64 // published
	}{
		{20, 0.005, 0, 0.095, 0.084, 0.689},
		{50, 0.005, 0, 0.222, 0.679, 0.999},
		{100, 0.005, 1, 0.090, 0.068, 0.636},
		{500, 0.005, 5, 0.042, 0.003, 0.104},
		{500, 0.009, 5, 0.297, 0.904, 1},
		{20, 0.02, 0, 0.332, 0.95, 1},
	} {
		r := rand.New(rand.NewPCG(11, uint64(c.requests*1000*c.rate)))
		fails := atLeastOf(int(c.allowed)+1, int(c.requests), c.rate)
		near(t, "share of failed windows", fails, c.fails, 0.0015)
		for i, want := range []float64{c.in25, c.in60} {
			checks := []int{25, 60}[i]
			var flagger, argo tally
			for range runs {
				flagger.add(rolledBack(newFlagger(), checks+1, flaggerThen(checks, fixedWindows(r, c.requests, 0.005, c.rate))))
				argo.add(rolledBack(newArgo(), checks, fixedWindows(r, c.requests, 0.005, c.rate)))
			}
			t.Logf("%3.0f requests, %.1f %%: Flagger rolls back %s in %d checks (computed %.3f), Argo %s", c.requests, 100*c.rate, flagger, checks, want, argo)
			near(t, "Flagger", flagger.share().Share, want, 4*math.Sqrt(want*(1-want)/runs)+0.004)
			exact := atLeastOf(4, checks, fails)
			near(t, "Argo", argo.share().Share, exact, 4*math.Sqrt(exact*(1-exact)/runs)+0.001)
		}
	}
}

// flaggerThen gives a last window that passes, for the tick that only acts on what was counted.
func flaggerThen(checks int, draw func() window) func() window {
	n := 0
	return func() window {
		if n++; n > checks {
			return window{counts{100, 0}, counts{100, 0}}
		}
		return draw()
	}
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within {
		t.Errorf("%s: got %.4f, want %.4f within %.4f", what, got, want, within)
	}
}

// play asks a rule until it decides, and returns the answer and the number of checks.
func play(p peer, draw func() window) (answer, int) {
	for n := 1; ; n++ {
		if a := p.check(draw()); a != goOn || n > 10_000 {
			return a, n
		}
	}
}

// TestFlaggerAsMeasured compares the rule with what the real Flagger 1.36.1 was measured to do at 50 requests a window and
// 25 steps of 2 %: of 40 healthy services with 0.5 % errors it rolled back 37; of 10 with 5 % errors 10, after 6 intervals.
// A failed check holds the weight, so a run takes more than 25 checks.
func TestFlaggerAsMeasured(t *testing.T) {
	const runs = 4000
	r := rand.New(rand.NewPCG(11, 2))
	var healthy, sick tally
	var ticks sample
	for range runs {
		a, _ := play(newFlagger(), fixedWindows(r, 50, 0.005, 0.005))
		healthy.add(a == rollBack)
		a, n := play(newFlagger(), fixedWindows(r, 50, 0.005, 0.05))
		sick.add(a == rollBack)
		ticks = append(ticks, float64(n))
	}
	t.Logf("rolled back: %s of healthy services, %s of bad ones after %.0f ticks (median)", healthy, sick, quantile(ticks, 0.5))
	if measured := shareOf(37, 40); healthy.share().Share < measured.Low || healthy.share().Share > measured.High {
		t.Errorf("healthy services rolled back: %s, measured 37 of 40 (%.3f to %.3f)", healthy, measured.Low, measured.High)
	}
	if sick.share().Share < 0.999 || quantile(ticks, 0.5) != 6 {
		t.Errorf("bad versions: %.3f rolled back after %.0f ticks, measured 10 of 10 after 6", sick.share().Share, quantile(ticks, 0.5))
	}
}

// TestPeersQuirks: what the rules do where there is nothing to measure, and in what order.
func TestPeersQuirks(t *testing.T) {
	idle := window{}
	good := window{counts{1000, 1}, counts{1000, 1}}
	bad := window{counts{1000, 1}, counts{1000, 100}}
	repeat := func(w window, n int) (out []window) {
		for range n {
			out = append(out, w)
		}
		return out
	}
	for name, c := range map[string]struct {
		reason  string
		rule    peer
		windows []window
		want    answer
		checks  int
	}{
		"FlaggerIdle":     {"a healthy service without traffic is rolled back, at the tick after the fifth", newFlagger(), repeat(idle, 10), rollBack, 6},
		"FlaggerAddsUp":   {"successes between do not reset what failed", newFlagger(), append(append(append(repeat(bad, 2), repeat(good, 10)...), repeat(bad, 3)...), good), rollBack, 16},
		"FlaggerPromotes": {"24 good checks reach the top, the next promotes", newFlagger(), repeat(good, 30), promote, 25},
		"FlaggerHolds":    {"a failed check does not advance", newFlagger(), append(repeat(bad, 2), repeat(good, 30)...), promote, 27},
		"ArgoNothing":     {"the fifth empty answer in a row aborts", newArgo(), repeat(idle, 10), rollBack, 5},
		"ArgoNaN":         {"0/0 after traffic is a failed measurement", newArgo(), append(repeat(good, 3), repeat(idle, 10)...), rollBack, 7},
		"ArgoAddsUp":      {"the fourth failure aborts, however far apart", newArgo(), append(append(repeat(bad, 3), repeat(good, 10)...), repeat(bad, 3)...), rollBack, 14},
		"ArgoPromotes":    {"when the steps are over", newArgo(), repeat(good, 30), promote, 25},
		"KayentaNodata":   {"a metric without data is half of all metrics or more", newKayenta(), repeat(idle, 10), rollBack, 5},
		"KayentaNaN":      {"minutes without requests have no value", newKayenta(), append(repeat(good, 5), repeat(idle, 30)...), promote, 25},
		"KayentaHigh":     {"every value of the canary is higher", newKayenta(), repeat(bad, 10), rollBack, 5},
		"KayentaPromotes": {"at the end", newKayenta(), repeat(good, 30), promote, 25},
	} {
		t.Run(name, func(t *testing.T) {
			i := 0
			got, checks := play(c.rule, func() window { i++; return c.windows[i-1] })
			if got != c.want || checks != c.checks {
				t.Errorf("%s: got answer %d after %d checks, want %d after %d", c.reason, got, checks, c.want, c.checks)
			}
		})
	}
}

// TestKayentaLooks: the tolerance makes up for the looks while values are independent and enough, and a canary that fails
// twice as often is found. Neither holds for few requests a minute, see the table.
func TestKayentaLooks(t *testing.T) {
	const runs = 1000
	r := rand.New(rand.NewPCG(11, 3))
	var equal, doubled tally
	for range runs {
		equal.add(rolledBack(newKayenta(), 25, fixedWindows(r, 500, 0.01, 0.01)))
		doubled.add(rolledBack(newKayenta(), 25, fixedWindows(r, 500, 0.01, 0.02)))
	}
	t.Logf("rolled back within 25 values a minute apart: %s of equal versions, %s of ones that fail twice as often", equal, doubled)
	if equal.share().Share > 0.05 || equal.n == 0 {
		t.Errorf("false alarms: %.3f, want a few in a thousand", equal.share().Share)
	}
	if doubled.share().Share < 0.9 {
		t.Errorf("found: %.3f, want nearly all", doubled.share().Share)
	}
}
