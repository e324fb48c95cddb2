package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/cmd/local/fleet"
	"github.com/siskin-dev/siskin/ingest"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// builtIn holds the models and trips that the demo needs; data/*/README.md says where they come from.
//
//go:embed data
var builtIn embed.FS

// folder opens a folder of the user's, or the built-in one.
func folder(path, name string) (fs.FS, error) {
	if path == "" {
		return fs.Sub(builtIn, "data/"+name)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("opening --%s: %w", name, err)
	}
	return os.DirFS(path), nil
}

// demo is one scenario being told.
type demo struct {
	*settings
	story scenario
	stack *stack
	fleet *fleet.Fleet
	began time.Time
}

// run tells the scenario from the first start to the summary.
func (s *settings) run(ctx context.Context, p *run.Process) error {
	story, steps, err := s.plot()
	if err != nil {
		return err
	}
	models, err := folder(s.models, "models")
	if err != nil {
		return err
	}
	trips, err := folder(s.trips, "trips")
	if err != nil {
		return err
	}
	dir, err := workDir(p)
	if err != nil {
		return err
	}
	fmt.Printf("Siskin demo %q: %s.\nStarting Kubernetes API, Redis, S3, Prometheus, gateway, models and controller in this process ...\n", story.name, story.story)
	d := &demo{settings: s, story: story}
	if d.stack, err = startStack(ctx, p, dir, models); err != nil {
		return err
	}
	if err := d.stage(ctx, trips, steps); err != nil {
		return err
	}
	ending, err := d.tell(ctx)
	if err != nil {
		return err
	}
	if s.keep {
		d.addresses()
		return p.Wait(ctx)
	}
	return ending
}

// tell lets the story happen. Ending says what was wrong with its end, err why there was none.
func (d *demo) tell(ctx context.Context) (ending, err error) {
	if d.story.trial != nil {
		e, err := d.compare(ctx)
		if err != nil {
			return nil, err
		}
		return d.concludes(e), nil
	}
	ro, err := d.watch(ctx)
	if err != nil {
		return nil, err
	}
	return d.summary(ro), nil
}

// plot reads the flags that change the story.
func (s *settings) plot() (scenario, []v1alpha1.StepSpec, error) {
	story, err := findScenario(s.scenario)
	if err != nil {
		return story, nil, err
	}
	if s.canary != "" {
		story.canary, story.model = s.canary, s.canary
	}
	if s.limit > 0 {
		story.cap = s.limit
	}
	if s.speed == 0 {
		s.speed = story.speed()
	}
	if story.canary == s.stable {
		return story, nil, fmt.Errorf("checking --canary %q: must differ from --stable", story.canary)
	}
	var steps []v1alpha1.StepSpec
	for word := range strings.SplitSeq(s.steps, ",") {
		w, err := strconv.ParseInt(strings.TrimSpace(word), 10, 32)
		if err != nil || w < 1 || w > 100 {
			return story, nil, fmt.Errorf("reading --steps %q: %q must be a weight from 1 to 100", s.steps, word)
		}
		steps = append(steps, v1alpha1.StepSpec{Weight: int32(w), Hold: metav1.Duration{Duration: s.hold}})
	}
	return story, steps, nil
}

// stage sets the scene: the stable version answers, the fleet drives, and the canary is brought in.
func (d *demo) stage(ctx context.Context, trips fs.FS, steps []v1alpha1.StepSpec) error {
	c := d.stack.client
	for _, o := range []client.Object{serviceEntry(), inferenceService(d.stable, d.stable, ""), d.story.shadowed(newRollout(d.stable, steps, d.story.cap))} {
		if err := c.Create(ctx, o); err != nil {
			return fmt.Errorf("creating %T %q: %w", o, o.GetName(), err)
		}
	}
	if err := d.await(ctx, "the stable version to answer", func(ro *v1alpha1.Rollout) bool { return ro.Status.StableVersion == d.stable }); err != nil {
		return err
	}
	schema, err := ingest.OBD()
	if err != nil {
		return err
	}
	if err := d.stack.startIngest(ctx, schema); err != nil {
		return fmt.Errorf("starting ingest: %w", err)
	}
	if d.fleet, err = d.stack.startFleet(trips, schema, d.settings); err != nil {
		return fmt.Errorf("starting the fleet: %w", err)
	}
	if d.story.trial != nil {
		fmt.Printf("%d vehicles drive; all of them see %s. Creating the experiment.\n", d.vehicles, d.stable)
		return nil
	}
	fmt.Printf("%d vehicles drive; all of them see %s. Setting spec.version to %s.\n", d.vehicles, d.stable, d.story.canary)
	if err := c.Create(ctx, inferenceService(d.story.canary, d.story.model, d.story.fault)); err != nil {
		return fmt.Errorf("creating the canary: %w", err)
	}
	d.began = time.Now()
	return wanted(ctx, c, d.story.canary)
}

// await polls the rollout until it is as wished, for at most half a minute.
func (d *demo) await(ctx context.Context, what string, done func(*v1alpha1.Rollout) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		ro, err := d.read(ctx)
		if err != nil {
			return err
		}
		if done(ro) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %s: %w", what, ro.Status.Message, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) read(ctx context.Context) (*v1alpha1.Rollout, error) {
	ro := &v1alpha1.Rollout{}
	if err := d.stack.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: service}, ro); err != nil {
		return nil, fmt.Errorf("reading the rollout: %w", err)
	}
	return ro, nil
}
