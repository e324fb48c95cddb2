package backtest

import (
	"math"
	"slices"
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Report sums up the replays of runs of one kind. Its JSON is what people's tools read: fields are only ever added.
type Report struct {
	// Name says of what kind the runs were, such as "healthy" or "errors x2".
	Name string `json:"name"`
	Runs int    `json:"runs"`

	// How the runs ended; the four add up to Runs.
	Promoted   Share `json:"promoted"`
	RolledBack Share `json:"rolledBack"`
	Paused     Share `json:"paused"`
	Unfinished Share `json:"unfinished"`
	// Reasons counts the runs by the reason of the decision that ended them.
	Reasons map[rollout.Reason]int `json:"reasons"`

	// FalseAlarms are the runs that were rolled back before anything was wrong, of all. Bound is what the plan allows.
	FalseAlarms     Share   `json:"falseAlarms"`
	FalseAlarmBound float64 `json:"falseAlarmBound"`

	// Detected are the runs that were rolled back after a fault had begun, of those in which it had; it and all below are nil
	// where no run had a fault.
	Detected *Share `json:"detected,omitempty"`
	// Missed are those that were promoted all the same. Bound is what the plan allows at or beyond the margins.
	Missed    *Share  `json:"missed,omitempty"`
	MissBound float64 `json:"missBound"`
	// Delay is the time from the onset of the fault to the rollback; Limit the mean of what no judge beats in the mean.
	Delay        *Spread  `json:"delay,omitempty"`
	LimitSeconds *float64 `json:"limitSeconds,omitempty"`
	// Efficiency is the limit over the mean delay, both over the detected runs.
	Efficiency *float64 `json:"efficiency,omitempty"`

	// Passage is the time from the start to the promotion, of the runs that were promoted; nil where none was.
	Passage *Spread `json:"passage,omitempty"`
	// Exposed is the number of requests that met the canary before the run ended.
	Exposed Size `json:"exposed"`
}

// Share is a number of runs of many, with the interval of 95 % confidence of its probability (Wilson 1927, "Probable
// inference, the law of succession, and statistical inference").
type Share struct {
	Count int     `json:"count"`
	Of    int     `json:"of"`
	Share float64 `json:"share"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Spread describes times in seconds.
type Spread struct {
	Mean float64 `json:"meanSeconds"`
	P50  float64 `json:"p50Seconds"`
	P95  float64 `json:"p95Seconds"`
}

// Size describes numbers of requests.
type Size struct {
	Mean float64 `json:"mean"`
	P95  float64 `json:"p95"`
}

// Summarise makes the report of some records of one plan.
func Summarise(name string, plan rollout.Plan, records []Record) Report {
	r := Report{
		Name: name, Runs: len(records), Reasons: map[rollout.Reason]int{},
		FalseAlarmBound: plan.FalseAlarm, MissBound: plan.Miss,
	}
	var falseAlarms, faulty, detected, missed int
	var delays, limits, passages, exposed []float64
	endings := map[Ending]int{}
	for _, x := range records {
		endings[x.Ending]++
		r.Reasons[x.Reason]++
		exposed = append(exposed, x.Exposed)
		if x.Ending == Promoted {
			passages = append(passages, x.End.Sub(x.Start).Seconds())
		}
		if !x.Harmful {
			falseAlarms += count(x.Ending == RolledBack)
			continue
		}
		faulty++
		missed += count(x.Ending == Promoted)
		if x.Ending == RolledBack {
			detected++
			delays, limits = append(delays, x.Delay().Seconds()), append(limits, x.Limit.Seconds())
		}
	}
	n := len(records)
	r.Promoted, r.RolledBack = shareOf(endings[Promoted], n), shareOf(endings[RolledBack], n)
	r.Paused, r.Unfinished = shareOf(endings[Paused], n), shareOf(endings[Unfinished], n)
	r.FalseAlarms, r.Exposed = shareOf(falseAlarms, n), Size{mean(exposed), quantile(exposed, 0.95)}
	r.Passage = spread(passages)
	if faulty > 0 {
		d, m := shareOf(detected, faulty), shareOf(missed, faulty)
		r.Detected, r.Missed, r.Delay = &d, &m, spread(delays)
	}
	if r.Delay != nil && mean(limits) > 0 {
		limit := mean(limits)
		efficiency := limit / r.Delay.Mean
		r.LimitSeconds, r.Efficiency = &limit, &efficiency
	}
	return r
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// shareOf returns x of n with Wilson's interval at 95 %.
func shareOf(x, n int) Share {
	s := Share{Count: x, Of: n, Low: 0, High: 1}
	if n == 0 {
		return s
	}
	const z = 1.959964
	k := float64(n)
	s.Share = float64(x) / k
	middle := (s.Share + z*z/(2*k)) / (1 + z*z/k)
	reach := z / (1 + z*z/k) * math.Sqrt(s.Share*(1-s.Share)/k+z*z/(4*k*k))
	s.Low, s.High = max(0, middle-reach), min(1, middle+reach)
	if x == 0 {
		s.Low = 0
	}
	if x == n {
		s.High = 1
	}
	return s
}

// spread returns nil for no times.
func spread(seconds []float64) *Spread {
	if len(seconds) == 0 {
		return nil
	}
	return &Spread{mean(seconds), quantile(seconds, 0.5), quantile(seconds, 0.95)}
}

func mean(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(len(xs))
}

// quantile returns the smallest of the numbers that at least a share p of them do not exceed.
func quantile(xs []float64, p float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(xs))
	return sorted[max(0, int(math.Ceil(p*float64(len(xs))))-1)]
}

// seconds turns a number of seconds into a duration, to a tenth of one.
func seconds(s float64) time.Duration {
	return time.Duration(math.Round(s*10)) * 100 * time.Millisecond
}
