// Command local runs all of Siskin in one process, with no cluster and nothing to install: a Kubernetes API, a gateway
// that obeys Istio's objects, Prometheus, Redis, S3, model servers, the energy meter and a fleet of vehicles that replay
// recorded drives. The rollout controller in it is the one that runs in a cluster.
package main

import (
	"flag"
	"os"
	"time"

	"github.com/siskin-dev/siskin/cmd/internal/run"
)

func main() {
	os.Exit(run.Main(run.Options{
		Name: "local", StopTimeout: 5 * time.Second, Logs: run.LogOptions{Format: "text", Level: "error"},
	}, bind))
}

// settings are the flags.
type settings struct {
	scenario       string
	models, trips  string
	stable, canary string
	steps          string
	hold           time.Duration
	vehicles       int
	rate, speed    float64
	limit          time.Duration
	keep, plain    bool
}

func bind(fs *flag.FlagSet) run.Body {
	s := &settings{}
	fs.StringVar(&s.scenario, "scenario", "promote", "story to tell: promote, bad, errors, slow, shadow, silent, experiment, equal or lossy")
	fs.StringVar(&s.models, "models", "", "folder with one folder a version, each with an XGBoost model and metadata.json; the built-in models when empty")
	fs.StringVar(&s.trips, "trips", "", "folder with recorded trips (*.csv.gz); the built-in trips when empty")
	fs.StringVar(&s.stable, "stable", "v1", "version that all vehicles see at first")
	fs.StringVar(&s.canary, "canary", "", "version to try; the scenario's when empty")
	fs.StringVar(&s.steps, "steps", "25,50,75", "weights to reach, in percent")
	fs.DurationVar(&s.hold, "hold", 8*time.Second, "shortest time at each step")
	fs.IntVar(&s.vehicles, "vehicles", 400, "size of the fleet")
	fs.Float64Var(&s.rate, "rate", 1, "measurements per second and vehicle")
	fs.Float64Var(&s.speed, "speed", 0, "how many times faster than life the drives are replayed; the scenario's when 0")
	fs.DurationVar(&s.limit, "cap", 0, "longest wait for evidence at each step; the scenario's when 0")
	fs.BoolVar(&s.keep, "keep", false, "leave everything running at the end and print the addresses")
	fs.BoolVar(&s.plain, "plain", false, "print lines also on a terminal, instead of a live view")
	return s.run
}
