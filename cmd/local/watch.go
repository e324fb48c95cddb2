package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/siskin-dev/siskin/cmd/internal/view"
	"github.com/siskin-dev/siskin/energy"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

const (
	frameInterval = 500 * time.Millisecond
	plainInterval = 5 * time.Second
	patience      = 8 * time.Minute
)

// watch shows the rollout until the story ends, and returns how it stands then.
func (d *demo) watch(ctx context.Context) (*v1alpha1.Rollout, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	screen := newScreen(d.plain)
	tick := time.NewTicker(frameInterval)
	defer tick.Stop()
	for {
		ro, err := d.read(ctx)
		if err != nil {
			return nil, err
		}
		if d.story.silent && ro.Status.Step >= 1 && ro.Status.Run.LastBlock != nil && time.Since(ro.Status.Run.StepStartedAt.Time) > 3*time.Second {
			d.stack.prom.Pause()
		}
		screen.show(d, ro)
		if d.story.shadow > 0 && ro.Status.Weight > 0 {
			return nil, fmt.Errorf("checking scenario %q: %d %% of the vehicles meet %s", d.story.name, ro.Status.Weight, d.story.canary)
		}
		if _, _, done := ended(ro, d.story.canary); done {
			return ro, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("watching the rollout: not ended after %s; %s", patience, ro.Status.Message)
		case <-tick.C:
		}
	}
}

// screen draws frames over each other on a terminal, and lines elsewhere.
type screen struct {
	live  bool
	color bool
	drawn int
	last  string
	at    time.Time
}

func newScreen(plain bool) *screen {
	info, err := os.Stdout.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0 && !plain
	return &screen{live: terminal, color: terminal && os.Getenv("NO_COLOR") == ""}
}

func (s *screen) show(d *demo, ro *v1alpha1.Rollout) {
	if !s.live {
		s.line(d, ro)
		return
	}
	lines := append(view.Lines(ro, view.Options{Color: s.color, Now: time.Now()}), d.extras()...)
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.drawn)
	}
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	s.drawn = len(lines)
	fmt.Print(b.String())
}

// line prints one line when the decision changes, and the gates every few seconds.
func (s *screen) line(d *demo, ro *v1alpha1.Rollout) {
	st := ro.Status
	key := fmt.Sprint(st.Step, st.Weight, st.Reason)
	if key != s.last {
		fmt.Printf("%6.1fs  step %d  weight %3d %%  %s (%s): %s\n", time.Since(d.began).Seconds(), st.Step, st.Weight, st.Decision, st.Reason, st.Message)
	} else if time.Since(s.at) < plainInterval {
		return
	}
	s.last, s.at = key, time.Now()
	for _, g := range st.Gates {
		fmt.Printf("         %-8s %-6s ratio %-6s [%s, %s] limit %s  %s\n", g.Name, g.Verdict, dash(g.Estimate), dash(g.Low), dash(g.High), dash(g.Limit), g.Message)
	}
	for _, l := range d.extras() {
		fmt.Println("         " + l)
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// extras are what the rollout's status does not hold: the energy of each version and how the fleet fares.
func (d *demo) extras() []string {
	lines := []string{d.energyLine()}
	if d.fleet != nil {
		f := d.fleet.Stats()
		lines = append(lines, fmt.Sprintf("fleet    %d measurements sent, %d accepted, %d refused, %d failed, %d turns missed",
			f.Sent, f.Accepted, f.Refused+f.Rejected, f.Failed, f.Overrun))
	}
	return lines
}

// energyLine gives the joules per inference of each version, and says where the joules come from.
func (d *demo) energyLine() string {
	parties := d.stack.energy.Totals().Parties
	slices.SortFunc(parties, func(a, b energy.PartyTotal) int { return strings.Compare(a.Version, b.Version) })
	words := []string{}
	for _, p := range parties {
		if p.Inferences > 0 {
			words = append(words, fmt.Sprintf("%s %.3g mJ", p.Version, float64(p.Dynamic)/float64(p.Inferences)/1000))
		}
	}
	if len(words) == 0 {
		return "energy   no reading yet"
	}
	return fmt.Sprintf("energy   %s per inference, dynamic (%s: %s)", strings.Join(words, ", "), d.stack.meter.Source, d.stack.meter.Quality)
}

// summary says how the story ended, and returns an error when it ended otherwise than it must.
func (d *demo) summary(ro *v1alpha1.Rollout) error {
	outcome, reason, _ := ended(ro, d.story.canary)
	st := ro.Status
	fmt.Printf("\nEnded after %.0f s: %s (%s)\n  %s\n", time.Since(d.began).Seconds(), outcome, reason, st.Message)
	fmt.Printf("  %s\n  %s\n", exposure(ro), d.energyLine())
	if err := d.story.verdict(outcome, reason); err != nil {
		return err
	}
	fmt.Printf("  as expected of scenario %q\n", d.story.name)
	return nil
}

// exposure says who sees what.
func exposure(ro *v1alpha1.Rollout) string {
	st := ro.Status
	if st.CanaryVersion == "" {
		return fmt.Sprintf("all units see %s", st.StableVersion)
	}
	return fmt.Sprintf("%d %% of the units see %s, the others %s", st.Weight, st.CanaryVersion, st.StableVersion)
}

// addresses says how to look around in what is left running.
func (d *demo) addresses() {
	fmt.Printf(`
Everything is left running; press Ctrl-C to end it.
  export KUBECONFIG=%s
  kubectl get rollouts,virtualservices,destinationrules
  bin/rollout status %s
  Gateway       %s   (Host: %s)
  Ingest        %s
  Prometheus    %s/api/v1/query?query=istio_requests_total
  Alertmanager webhook  %s
`, d.stack.kubeconfig, service, d.stack.gateway, host, d.stack.ingest, d.stack.prom.URL(), d.stack.webhook)
}
