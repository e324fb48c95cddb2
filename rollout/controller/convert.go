package controller

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/siskin-dev/siskin/mesh"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// Defaults of gates.
const (
	defaultMargin    = 1.5
	defaultTolerance = 0.01
)

// planOf reads the spec in the terms of the rollout package. The API server has refused most mistakes before; what it
// cannot see is an error here that names the field.
func planOf(ro *v1alpha1.Rollout) (rollout.Plan, error) {
	a := ro.Spec.Analysis
	p := rollout.Plan{
		Interval: orDefault(a.Interval.Duration, 15*time.Second), WarmUp: a.WarmUp.Duration,
		Cap: orDefault(a.Cap.Duration, 2*time.Hour), RollbackAtCap: a.OnInconclusive == "Rollback",
	}
	var err error
	if p.FalseAlarm, err = decimal("analysis.falseAlarm", a.FalseAlarm, 0.01); err != nil {
		return p, err
	}
	if p.Miss, err = decimal("analysis.miss", a.Miss, 0.05); err != nil {
		return p, err
	}
	for _, s := range ro.Spec.Steps {
		p.Steps = append(p.Steps, rollout.Step{Weight: int(s.Weight), Hold: s.Hold.Duration})
	}
	p.Sticky = ro.Spec.Assignment != nil
	if s := ro.Spec.Strategy; s != nil && s.Preview != nil {
		p.Preview = rollout.Preview{Hold: s.Preview.Hold.Duration, Ask: s.Preview.Approval == "Manual"}
		p.Targeted = (s.Preview.Cohort != nil && cohortLabel(ro) == "") || len(s.Preview.Hosts) > 0
		if c := s.Preview.Cohort; c != nil {
			p.Preview.Control = int(c.Control)
		}
	}
	if s := ro.Spec.Strategy; s != nil && s.Shadow != nil {
		p.Shadow = rollout.Shadow{Percent: int(s.Shadow.Percent), Hold: s.Shadow.Hold.Duration}
	}
	if len(p.Steps) == 0 {
		return p, fmt.Errorf("reading spec.steps: must have at least one step")
	}
	for _, g := range ro.Spec.Gates {
		gate, err := gateOf(ro, g)
		if err != nil {
			return p, err
		}
		p.Gates = append(p.Gates, gate)
	}
	return p, nil
}

func gateOf(ro *v1alpha1.Rollout, s v1alpha1.GateSpec) (rollout.Gate, error) {
	g := rollout.Gate{Name: s.Name, Type: rollout.GateType(s.Type), HigherIsBetter: s.Direction == "Higher"}
	var err error
	if g.Margin, err = decimal("gates["+s.Name+"].margin", s.Margin, defaultMargin); err != nil {
		return g, err
	}
	if g.Tolerance, err = decimal("gates["+s.Name+"].tolerance", s.Tolerance, defaultTolerance); err != nil {
		return g, err
	}
	if s.Threshold != nil {
		g.Threshold = s.Threshold.Duration
	}
	g.BucketLabel = s.BucketLabel
	if s.Query != nil {
		if err := readQuery(&g, s.Name, s.Query); err != nil {
			return g, err
		}
	}
	if g.Type == rollout.Alerts {
		g.Matchers = matchersOf(ro, s)
	}
	return g, nil
}

// readQuery reads the counters of a gate.
func readQuery(g *rollout.Gate, name string, q *v1alpha1.MeanQuery) error {
	g.Sum, g.Count, g.VersionLabel = q.Sum, q.Count, orElse(q.VersionLabel, "version")
	if g.Type == rollout.Mean && q.Compare != "Blocks" {
		g.BucketLabel = orElse(q.BucketLabel, "bucket")
	}
	if q.Range == nil {
		return nil
	}
	var err error
	if g.Lowest, err = decimal("gates["+name+"].query.range.lowest", q.Range.Lowest, 0); err != nil {
		return err
	}
	g.Highest, err = decimal("gates["+name+"].query.range.highest", q.Range.Highest, 0)
	return err
}

// matchersOf returns the labels that an alert must have to count for a gate.
func matchersOf(ro *v1alpha1.Rollout, s v1alpha1.GateSpec) map[string]string {
	if len(s.Matchers) == 0 {
		return map[string]string{"rollout": ro.Name, "namespace": ro.Namespace}
	}
	m := make(map[string]string, len(s.Matchers))
	for _, l := range s.Matchers {
		m[l.Name] = l.Value
	}
	return m
}

func decimal(field, text string, otherwise float64) (float64, error) {
	if text == "" {
		return otherwise, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("reading spec.%s: %q must be a decimal number", field, text)
	}
	return v, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// trafficOf returns the parts of the traffic that the spec alone decides.
func trafficOf(ro *v1alpha1.Rollout) mesh.Traffic {
	s := ro.Spec.Service
	t := mesh.Traffic{
		Rollout:      ro.Name,
		Service:      mesh.Service{Namespace: ro.Namespace, Name: s.Name, Port: int(s.Port), TargetPort: int(s.TargetPort), Hosts: s.Hosts, Gateways: s.Gateways},
		VersionLabel: versionLabel(ro), Serving: servingOf(ro),
		Preview: ro.Spec.Strategy != nil && ro.Spec.Strategy.Preview != nil,
	}
	for _, tier := range ro.Spec.Tiers {
		t.Tiers = append(t.Tiers, mesh.Tier{Name: tier.Name, Port: int(tier.Port)})
	}
	if w := ro.Spec.Traffic; w != nil {
		t.Service.Delegate, t.Service.Protocol = w.Entry == "Delegate", mesh.Protocol(orElse(string(w.Protocol), "HTTP"))
		for _, port := range w.Ports {
			t.Service.Ports = append(t.Service.Ports, mesh.Port{Number: int(port.Number), Protocol: mesh.Protocol(port.Protocol)})
		}
	}
	if s := ro.Spec.Strategy; s != nil && s.Preview != nil {
		t.PreviewHosts = s.Preview.Hosts
		if c := s.Preview.Cohort; c != nil {
			t.Cohort = &mesh.Cohort{Header: c.Header, Values: c.Values, Buckets: cohortBuckets(ro)}
		}
	}
	if a := ro.Spec.Assignment; a != nil {
		if a.Header != nil {
			t.BucketHeader = orElse(a.Header.Name, mesh.BucketHeader)
		}
		if a.Hash != nil {
			t.HashHeader = a.Hash.Header
		}
		if a.Cookie != nil {
			t.Cookie = &mesh.Cookie{Name: a.Cookie.Name, MaxAgeSeconds: int(orDefault(a.Cookie.MaxAge.Duration, 24*time.Hour).Seconds())}
		}
	}
	if l := ro.Spec.RateLimit; l != nil {
		t.RateLimit = &mesh.RateLimit{
			RequestsPerSecond: int(l.RequestsPerSecond), Burst: int(l.Burst), OnlyCanary: l.Scope != "All",
			At: mesh.Place(orElse(l.At, string(mesh.AtSidecar))), Selector: l.Selector, Gateway: l.Gateway, Global: quotaOf(l.Global),
		}
		for _, p := range l.Ports {
			t.RateLimit.Ports = append(t.RateLimit.Ports, mesh.PortLimit{Number: int(p.Number), RequestsPerSecond: int(p.RequestsPerSecond), Burst: int(p.Burst)})
		}
	}
	return t
}

// quotaOf is the global rate limit of the spec; nil for none.
func quotaOf(g *v1alpha1.GlobalRateLimitSpec) *mesh.GlobalLimit {
	if g == nil {
		return nil
	}
	return &mesh.GlobalLimit{
		Host: g.Host, Port: int(cmp.Or(g.Port, 8081)), Domain: g.Domain, Requests: int(g.RequestsPerUnit),
		Unit: mesh.Unit(orElse(g.Unit, string(mesh.PerSecond))), TimeoutMillis: int(g.Timeout.Milliseconds()), Deny: g.OnError == "Deny",
	}
}

// cohortLabel is the label that tells the cohort's requests from others; empty where nothing does.
func cohortLabel(ro *v1alpha1.Rollout) string {
	if s := ro.Spec.Strategy; s != nil && s.Preview != nil && s.Preview.Cohort != nil {
		return s.Preview.Cohort.Label
	}
	return ""
}

// cohortBuckets are the buckets of a cohort that meet the canary before others do: the first ones in the run's order, so that
// nobody leaves the canary when everybody's weight grows past them. Nil without a control: then all of the cohort does.
func cohortBuckets(ro *v1alpha1.Rollout) []int {
	control := int(ro.Spec.Strategy.Preview.Cohort.Control)
	if control == 0 {
		return nil
	}
	id := ro.Name // what a run would look like
	if ro.Status.Run != nil {
		id = ro.Status.Run.ID
	}
	return rollout.Allocate(id, rollout.Buckets-control)
}

// runOf reads the run that is going on from the status; nil when there is none. Evidence that cannot be read, as another
// release may have written it, is an error beside a run that gathers its evidence anew: the blocks that were counted stay
// behind it, and nothing passes on evidence that is not there.
func runOf(ro *v1alpha1.Rollout) (*rollout.Run, error) {
	s := ro.Status.Run
	if s == nil {
		return nil, nil //nolint:nilnil // no run is an answer, not an error
	}
	r := &rollout.Run{
		ID: s.ID, Step: int(ro.Status.Step), Weight: int(ro.Status.Weight), Started: s.StartedAt.Time, Paused: rollout.Reason(s.Paused),
		StepStarted: timeOf(s.StepStartedAt), Waiting: timeOf(s.WaitingSince), LastBlock: timeOf(s.LastBlock), PausedAt: timeOf(s.PausedAt),
		Spreading: timeOf(s.SpreadingAt), Shown: timeOf(s.ShownAt), NotReadySince: timeOf(s.NotReadySince),
	}
	if len(s.Share) > 0 {
		if err := json.Unmarshal(s.Share, &r.Share); err != nil {
			r.Share = rollout.Share{}
		}
	}
	if len(s.Evidence) == 0 {
		return r, nil
	}
	if err := r.Evidence.UnmarshalBinary(s.Evidence); err != nil {
		r.Evidence = rollout.Evidence{}
		return r, fmt.Errorf("reading status.run.evidence: %w", err)
	}
	return r, nil
}

// runStatus writes a run for the status. Evidence is plain numbers, which always encode.
func runStatus(r rollout.Run) *v1alpha1.RunStatus {
	evidence, err := r.Evidence.MarshalBinary()
	if err != nil {
		evidence = nil
	}
	share, err := json.Marshal(r.Share)
	if err != nil {
		share = nil
	}
	return &v1alpha1.RunStatus{
		ID: r.ID, StartedAt: metav1.NewMicroTime(r.Started), Paused: string(r.Paused), Evidence: evidence, Share: share, SpreadingAt: microTime(r.Spreading), ShownAt: microTime(r.Shown),
		StepStartedAt: microTime(r.StepStarted), WaitingSince: microTime(r.Waiting), LastBlock: microTime(r.LastBlock), PausedAt: microTime(r.PausedAt),
		NotReadySince: microTime(r.NotReadySince),
	}
}

func timeOf(t *metav1.MicroTime) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func microTime(t time.Time) *metav1.MicroTime {
	if t.IsZero() {
		return nil
	}
	m := metav1.NewMicroTime(t)
	return &m
}

// runID names a run: the version, and enough of the rollout's identity and of the time to tell it from every other.
func runID(ro *v1alpha1.Rollout, now time.Time) string {
	uid := strings.ReplaceAll(string(ro.UID), "-", "")
	return fmt.Sprintf("%s-%.6s-%s", ro.Spec.Version, uid, strconv.FormatInt(now.UnixMicro(), 36))
}
