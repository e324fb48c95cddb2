package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/internal/view"
	"github.com/siskin-dev/siskin/cmd/local/fleet"
	"github.com/siskin-dev/siskin/ingest"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// comparison is a story of an experiment: which variants are compared, what is wrong with the assignment, and how it must
// end.
type comparison struct {
	// variants besides the control, which serves the stable version.
	variants [2]variant
	// lossy names a variant of whose vehicles three in four fall silent.
	lossy string
	// verdict is how the experiment must end, winner which variant must win, and reason the word that must explain it. Empty: any.
	// Whether a winner is also told apart from a second copy of the control is up to the draw of the buckets.
	verdict, winner, reason string
	smallestEffect          string
	// minimum is how long the experiment runs at least before it names a winner.
	minimum time.Duration
}

// variant is a version by its label, with the artefact that it serves.
type variant struct{ version, model string }

const experimentName = "models"

// variantName is the name of the variant of a version.
func variantName(version string) string { return "model-" + strings.ReplaceAll(version, ".", "-") }

// newExperiment is the demo's experiment: three variants of 30 buckets each, and 10 that see none of it.
func newExperiment(stable string, c *comparison) *v1alpha1.Experiment {
	e := &v1alpha1.Experiment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: experimentName},
		Spec: v1alpha1.ExperimentSpec{
			Rollout:  service,
			Variants: []v1alpha1.VariantSpec{{Name: "control", Version: stable, Share: 30}},
			Holdout:  10,
			Objective: v1alpha1.ObjectiveSpec{
				Query: v1alpha1.ObjectiveQuery{
					Sum:   fmt.Sprintf("siskin_prediction_absolute_error_total{model=%q}", model),
					Count: fmt.Sprintf("siskin_predictions_total{model=%q}", model),
				},
				Direction: "Lower", SmallestEffect: c.smallestEffect,
			},
			Guardrails: []v1alpha1.GateSpec{{Name: "errors", Type: v1alpha1.GateErrorRate}},
			Units:      fmt.Sprintf("siskin_units_total{model=%q}", model),
			Duration: v1alpha1.ExperimentDuration{
				Minimum: &metav1.Duration{Duration: c.minimum}, Maximum: &metav1.Duration{Duration: 20 * time.Minute},
			},
			Analysis: v1alpha1.ExperimentAnalysis{
				Interval: metav1.Duration{Duration: time.Second}, WarmUp: metav1.Duration{Duration: time.Second}, FalseAlarm: "0.05",
			},
		},
	}
	for _, v := range c.variants {
		e.Spec.Variants = append(e.Spec.Variants, v1alpha1.VariantSpec{Name: variantName(v.version), Version: v.version, Share: 30})
	}
	return e
}

// compare tells a story of an experiment, from the models to the verdict.
func (d *demo) compare(ctx context.Context) (*v1alpha1.Experiment, error) {
	c := d.stack.client
	e := newExperiment(d.stable, d.story.trial)
	for _, v := range d.story.trial.variants {
		if err := c.Create(ctx, inferenceService(v.version, v.model, "")); err != nil {
			return nil, fmt.Errorf("creating version %q: %w", v.version, err)
		}
	}
	d.began = time.Now()
	if err := c.Create(ctx, e); err != nil {
		return nil, fmt.Errorf("creating the experiment: %w", err)
	}
	return d.follow(ctx, e)
}

// follow shows the experiment until it ends and the routes show none of it any more.
func (d *demo) follow(ctx context.Context, e *v1alpha1.Experiment) (*v1alpha1.Experiment, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(frameInterval)
	defer tick.Stop()
	shown, at := "", time.Time{}
	for {
		if err := d.stack.client.Get(ctx, client.ObjectKeyFromObject(e), e); err != nil {
			return nil, fmt.Errorf("reading the experiment: %w", err)
		}
		d.silence(e)
		if key := e.Status.State + e.Status.Reason; key != shown || time.Since(at) > plainInterval {
			shown, at = key, time.Now()
			d.showExperiment(e)
		}
		if e.Status.State == v1alpha1.ExperimentEnded {
			return e, d.await(ctx, "the routes to show the stable version alone", func(ro *v1alpha1.Rollout) bool { return !showsExperiment(ro) })
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("watching the experiment: not ended after %s; %s", patience, e.Status.Message)
		case <-tick.C:
		}
	}
}

func showsExperiment(ro *v1alpha1.Rollout) bool {
	for _, s := range ro.Status.Experiments {
		if s.LeftAt == nil {
			return true
		}
	}
	return false
}

// showExperiment prints how the experiment stands, in a line.
func (d *demo) showExperiment(e *v1alpha1.Experiment) {
	st := e.Status
	if st.State == "" {
		return // the controller has not seen it yet
	}
	fmt.Printf("%6.1fs  %s  %s (%s): %s\n", time.Since(d.began).Seconds(), e.Name, st.State, st.Reason, st.Message)
}

// silence makes three in four vehicles of the lossy variant fall silent, once its buckets are known.
func (d *demo) silence(e *v1alpha1.Experiment) {
	if d.story.trial.lossy == "" || d.stack.lost.Load() != nil {
		return
	}
	for _, a := range e.Status.Allocation {
		if a.Name == variantName(d.story.trial.lossy) {
			lost := mostOf(a.Buckets, d.stack.names, d.vehicles)
			d.stack.lost.Store(&lost)
		}
	}
}

// mostOf returns the VINs of three in four vehicles of the fleet whose bucket is among those listed.
func mostOf(buckets string, names *ingest.Pseudonymiser, vehicles int) map[string]bool {
	listed := map[string]bool{}
	for b := range strings.SplitSeq(buckets, ",") {
		listed[b] = true
	}
	lost, n := map[string]bool{}, 0
	for i := range vehicles {
		vin := fleet.VIN(i)
		if listed[rollout.FormatBucket(rollout.BucketOf(service, names.Pseudonym(vin)))] {
			if n++; n%4 != 0 {
				lost[vin] = true
			}
		}
	}
	return lost
}

// lossyNetwork loses the requests of some vehicles.
type lossyNetwork struct {
	*http.Transport
	lost *atomic.Pointer[map[string]bool]
}

var errLost = errors.New("lost on the way")

// RoundTrip implements http.RoundTripper.
func (n lossyNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	if lost := n.lost.Load(); lost != nil {
		if parts := strings.Split(r.URL.Path, "/"); len(parts) > 3 && (*lost)[parts[3]] {
			return nil, errLost
		}
	}
	return n.Transport.RoundTrip(r)
}

// concluded compares how the experiment ended with how it must.
func (c *comparison) concluded(e *v1alpha1.Experiment) error {
	st := e.Status
	if st.Verdict != c.verdict || (c.reason != "" && st.Reason != c.reason) || (c.winner != "" && st.Winner != variantName(c.winner)) {
		return fmt.Errorf("checking the experiment: ended %s (%s) %s, expected %s (%s) %s", st.Verdict, st.Reason, st.Winner, c.verdict, c.reason, c.winner)
	}
	if c.winner == "" {
		return nil
	}
	for _, v := range st.Variants {
		if v.Name != st.Winner {
			continue
		}
		low, err := strconv.ParseFloat(v.Low, 64)
		high, err2 := strconv.ParseFloat(v.High, 64)
		if err := errors.Join(err, err2); err != nil {
			return fmt.Errorf("reading the interval of %q: %w", v.Name, err)
		}
		if !(0 < low && low < high && high < 1) {
			return fmt.Errorf("checking the interval of %q: [%g, %g], expected it below 1", v.Name, low, high)
		}
	}
	return nil
}

// concludes says how the experiment ended, and returns an error when it ended otherwise than it must.
func (d *demo) concludes(e *v1alpha1.Experiment) error {
	st := e.Status
	fmt.Printf("\nEnded after %.0f s: %s (%s)\n", time.Since(d.began).Seconds(), st.Verdict, st.Reason)
	fmt.Println(strings.Join(view.ExperimentLines(e, view.Options{Now: time.Now()}), "\n"))
	if err := d.story.trial.concluded(e); err != nil {
		return err
	}
	fmt.Printf("  as expected of scenario %q\n", d.story.name)
	return nil
}
