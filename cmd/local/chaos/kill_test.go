package chaos_test

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/cmd/internal/wire"
	"github.com/siskin-dev/siskin/rollout"
	"github.com/siskin-dev/siskin/rollout/evidence"
	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// TestKill rolls two services out twice, once in peace and once while the controller's process is killed again and again:
// a healthy one, and one that breaks on the way. Both lives end the same, nobody's variant goes back and forth, and
// every block counts once.
func TestKill(t *testing.T) {
	kills := 5
	if *chaos {
		kills = 20
	}
	// Holds long enough for all deaths to fall into the rollout.
	hold := time.Duration(kills) * 900 * time.Millisecond
	w := newWorld(t)
	b := newBinary(t, w)
	good := map[string]service{"calm": {"calm", "coolant"}, "killed": {"killed", "coolant"}}
	bad := map[string]service{"calm": {"calm", "brake"}, "killed": {"killed", "brake"}}
	all := []service{good["calm"], good["killed"], bad["calm"], bad["killed"]}
	for _, s := range all {
		w.create(s, hold)
	}
	calm := b.start(t, "calm")
	defer calm.kill(t)
	first := b.start(t, "killed")
	histories := map[service]*history{}
	for _, s := range all {
		w.until(s, "stable", stable)
		histories[s] = w.follow(s)
	}
	for _, s := range all {
		w.want(s, "v2")
	}
	broken := time.AfterFunc(hold*3/2, func() {
		w.feed.breaks(bad["calm"])
		w.feed.breaks(bad["killed"])
	})
	defer broken.Stop()
	last := b.killAgainAndAgain(t, first, kills)
	defer last.kill(t)
	if ended(w.get(good["killed"])) {
		t.Error("the rollout ended before the last death; its holds are too short")
	}
	for _, s := range all {
		w.until(s, "ended", ended)
	}
	w.settle(t, histories)
	for name, pair := range map[string]map[string]service{"good": good, "bad": bad} {
		want, got := w.get(pair["calm"]).Status, w.get(pair["killed"]).Status
		if diff := cmp.Diff(outcome(want), outcome(got)); diff != "" {
			t.Errorf("%s: outcome (-in peace +killed):\n%s", name, diff)
		}
		for _, s := range pair {
			checkHistory(t, w, s, histories[s])
		}
	}
	if got := w.get(bad["killed"]).Status.LastRun.Reason; got != "ErrorsHarm" {
		t.Errorf("the broken version ended for %q, want ErrorsHarm", got)
	}
	if got := w.get(good["killed"]).Status.LastRun.Outcome; got != v1alpha1.OutcomePromoted {
		t.Errorf("the healthy version ended %q, want Promoted", got)
	}
}

func outcome(st v1alpha1.RolloutStatus) []string {
	return []string{st.StableVersion, st.RejectedVersion, st.LastRun.Outcome, st.LastRun.Reason, st.LastRun.Previous, st.LastRun.Version}
}

// settle waits until every route shows the end of its run, then ends the histories.
func (w *world) settle(t *testing.T, histories map[service]*history) {
	t.Helper()
	for s, h := range histories {
		w.until(s, "settled", func(ro *v1alpha1.Rollout) bool {
			return slices.Equal(w.route(s), []string{ro.Status.StableVersion})
		})
		h.stop()
	}
}

// checkHistory holds what happened to a rollout against the invariants.
func checkHistory(t *testing.T, w *world, s service, h *history) {
	t.Helper()
	var before []int
	for i, set := range h.canaries {
		if left := slices.DeleteFunc(slices.Clone(before), func(b int) bool { return slices.Contains(set, b) }); len(left) > 0 {
			if len(set) > 0 || len(h.targets[i]) != 1 {
				t.Errorf("%v: buckets %v left the canary in mid-run, for targets %v", s, left, h.targets[i])
			}
			if i != len(h.canaries)-1 && slices.ContainsFunc(h.canaries[i:], func(c []int) bool { return len(c) > 0 }) {
				t.Errorf("%v: units saw the canary again after the end", s)
			}
		}
		before = set
	}
	var was v1alpha1.RolloutStatus
	blocks := 0
	for _, st := range h.statuses {
		if st.Run == nil {
			continue
		}
		if was.Run != nil && was.Run.ID != st.Run.ID {
			t.Errorf("%v: run %s became run %s", s, was.Run.ID, st.Run.ID)
		}
		if was.Run != nil && st.Run.LastBlock.Before(was.Run.LastBlock) {
			t.Errorf("%v: the last block went back from %v to %v", s, was.Run.LastBlock, st.Run.LastBlock)
		}
		if want := rollout.FormatBuckets(rollout.Allocate(st.Run.ID, int(st.Weight))); st.Allocation != want {
			t.Errorf("%v: allocation %s, want %s", s, st.Allocation, want)
		}
		if was.Run == nil || !st.Run.LastBlock.Equal(was.Run.LastBlock) {
			checkCounts(t, w, s, st)
			blocks++
		}
		was = st
	}
	t.Logf("%v: %d states of the route, %d of the status, %d with new blocks", s, len(h.canaries), len(h.statuses), blocks)
}

// checkCounts compares the evidence of a step with what Prometheus, asked once about all of its blocks, says.
func checkCounts(t *testing.T, w *world, s service, st v1alpha1.RolloutStatus) {
	t.Helper()
	var e rollout.Evidence
	if err := e.UnmarshalBinary(st.Run.Evidence); err != nil {
		t.Fatal(err)
	}
	got := [2]float64{e.Trails[0].Canary.Count, e.Trails[0].Canary.Sum}
	from := rollout.GridFloor(st.Run.StepStartedAt.Add(interval-time.Microsecond), interval)
	var want [2]float64
	if st.Step > 0 && from.Before(st.Run.LastBlock.Time) {
		source, err := wire.Evidence(wire.Options{PrometheusURL: w.prom.URL(), Lookback: lookback})
		if err != nil {
			t.Fatal(err)
		}
		want = truth(t, source, s, from, st.Run.LastBlock.Time)
	}
	if diff := max(got[0]-want[0], want[0]-got[0]); diff > 1e-6*want[0] {
		t.Errorf("%v: step %d from %v to %v: evidence of %.0f requests, Prometheus counted %.0f", s, st.Step, from, st.Run.LastBlock, got[0], want[0])
	}
	if diff := max(got[1]-want[1], want[1]-got[1]); diff > 1e-6*max(want[1], 1) {
		t.Errorf("%v: step %d from %v to %v: evidence of %.1f errors, Prometheus counted %.1f", s, st.Step, from, st.Run.LastBlock, got[1], want[1])
	}
}

func truth(t *testing.T, source *evidence.Source, s service, from, to time.Time) [2]float64 {
	t.Helper()
	blocks, err := source.Blocks(t.Context(), rollout.Question{
		Service: rollout.Service{Namespace: s.namespace, Name: s.name}, Gates: []rollout.Gate{{Name: "errors", Type: rollout.ErrorRate}},
		Stable: "v1", Canary: "v2", From: from, To: to, Interval: interval,
	})
	if err != nil {
		t.Fatal(err)
	}
	var sum [2]float64
	for _, b := range blocks {
		c := b.Counts["errors"].Canary
		sum[0] += c.Requests
		sum[1] += c.Events[0]
	}
	return sum
}

const lookback = 10 * time.Second

// binary is the controller, built once.
type binary struct {
	path, kubeconfig, prometheus string
}

func newBinary(t *testing.T, w *world) binary {
	t.Helper()
	dir := t.TempDir()
	b := binary{path: filepath.Join(dir, "rollout-controller"), kubeconfig: filepath.Join(dir, "kubeconfig"), prometheus: w.prom.URL()}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", b.path, "../../rollout-controller").CombinedOutput(); err != nil {
		t.Fatalf("building the controller: %v\n%s", err, out)
	}
	if err := w.api.Kubeconfig(b.kubeconfig, "default"); err != nil {
		t.Fatal(err)
	}
	return b
}

// process is a controller of one namespace.
type process struct {
	cmd  *exec.Cmd
	logs string
}

func (b binary) start(t *testing.T, namespace string) *process {
	t.Helper()
	logs, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), b.path, "--kubeconfig", b.kubeconfig, "--prometheus-url", b.prometheus,
		"--namespace", namespace, "--leader-elect=false", "--events=false", "--admin=", "--webhook-listen=127.0.0.1:0",
		"--evidence-lag", lag.String(), "--evidence-lookback", lookback.String(), "--grace", "2s")
	cmd.Stdout, cmd.Stderr = io.Discard, logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &process{cmd: cmd, logs: logs.Name()}
}

// kill is kill -9. A process that had ended by itself fails the test.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Errorf("killing the controller: %v", err)
	}
	_ = p.cmd.Wait()
	if p.cmd.ProcessState.Exited() {
		logs, _ := os.ReadFile(p.logs)
		t.Errorf("the controller had ended by itself: %s\n%s", p.cmd.ProcessState, logs)
	}
}

// killAgainAndAgain lets each process live for a random while, and returns the one that may live on.
func (b binary) killAgainAndAgain(t *testing.T, p *process, times int) *process {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(times), 7))
	for n := range times {
		life := 200*time.Millisecond + time.Duration(r.Int64N(int64(2200*time.Millisecond)))
		timer := time.NewTimer(life)
		select {
		case <-timer.C:
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
		p.kill(t)
		t.Logf("death %d after %v", n+1, life)
		p = b.start(t, "killed")
	}
	return p
}
