package experiment

import (
	"time"

	"github.com/siskin-dev/siskin/rollout"
)

// Judge says what the run's evidence has shown. It does not change the run. A verdict other than Running ends the experiment;
// the caller keeps it, and judges no further.
func Judge(p Plan, r Run, now time.Time) Result {
	res := Result{Verdict: Running, Reason: rollout.CollectingEvidence, Message: "no block has been counted yet", SampleRatio: 1}
	for i, v := range p.Variants {
		res.Arms = append(res.Arms, ArmResult{Name: v.Name, Version: v.Version, Control: i == p.control(), Buckets: len(r.Buckets[i])})
	}
	return res
}
