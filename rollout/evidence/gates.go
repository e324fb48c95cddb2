package evidence

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/siskin-dev/siskin/rollout"
)

func isCanceled(err error) bool { return errors.Is(err, context.Canceled) }

// selectors returns the series selectors that a gate needs. That a block has data shows in the first one.
func (s *Source) selectors(q rollout.Question, g rollout.Gate) []string {
	switch g.Type {
	case rollout.ErrorRate:
		return []string{s.requests(q, g)}
	case rollout.Latency:
		return []string{s.durations(q, g)}
	case rollout.Mean:
		return []string{g.Sum, g.Count}
	case rollout.EnergyPerRequest:
		return []string{orElse(g.Sum, joules(q)), orElse(g.Count, inferences(q))}
	case rollout.SampleRatio:
		return []string{orElse(g.Count, units(q))}
	case rollout.Data:
		return []string{orElse(g.Count, s.requests(q, g)), orElse(g.Sum, s.requests(q, g))}
	case rollout.Alerts:
	}
	return nil
}

func orElse(selector, otherwise string) string {
	if selector == "" {
		return otherwise
	}
	return selector
}

// requests selects the mesh's counter of requests that have ended, durations its histograms, classic and native.
func (s *Source) requests(q rollout.Question, g rollout.Gate) string {
	return "istio_requests_total{" + s.istio(q, g) + "}"
}

func (s *Source) durations(q rollout.Question, g rollout.Gate) string {
	const names = `__name__=~"istio_request_duration_milliseconds|istio_request_duration_milliseconds_bucket"`
	return "{" + names + "," + s.istio(q, g) + "}"
}

// istio selects the service's versions as the reporter counts them. Copies of requests are counted where they arrive, so there
// both versions are read.
func (s *Source) istio(q rollout.Question, g rollout.Gate) string {
	reporter := s.Reporter
	if q.Copies && g.JudgesCopies() {
		reporter = "destination"
	}
	versions := regexp.QuoteMeta(q.Stable) + "|" + regexp.QuoteMeta(q.Canary)
	return fmt.Sprintf(`reporter=%q,destination_service_name=%q,destination_service_namespace=%q,destination_version=~%q`,
		reporter, q.Service.Name, q.Service.Namespace, versions) + cohort(q, g)
}

// cohort keeps the requests of a cohort apart from all others. A mesh that does not set the label counts for nothing.
func cohort(q rollout.Question, g rollout.Gate) string {
	switch {
	case q.Cohort == "":
		return ""
	case q.Within && g.JudgesCohorts():
		return fmt.Sprintf(`,%s="in"`, q.Cohort)
	}
	return fmt.Sprintf(`,%s="out"`, q.Cohort)
}

// joules selects the dynamic energy of the model that is called like the service. Not the full energy: an idle node's
// joules are spread over requests, so that they depend on the weight and not on the version. Nor what is modelled or
// comes from a fixture: who wants to go by that must say so, by a selector of his own.
func joules(q rollout.Question) string {
	return fmt.Sprintf(`siskin_inference_joules_total{model=%q,scope="dynamic",source!~"model|fixture"}`, q.Service.Name)
}

// inferences selects the inferences of the intervals that joules covers, counted by the same process.
func inferences(q rollout.Question) string {
	return fmt.Sprintf(`siskin_energy_inferences_total{model=%q}`, q.Service.Name)
}

func units(q rollout.Question) string {
	return fmt.Sprintf(`siskin_units_total{model=%q}`, q.Service.Name)
}

// count counts every gate in one block. A gate of which no counter had a sample has no entry.
func (s *Source) count(q rollout.Question, w *window, asked map[string][]*stream, into map[string]rollout.Counts) {
	counters := make(map[string][]series, len(asked))
	for selector, streams := range asked {
		counters[selector] = w.differences(streams)
	}
	for _, g := range q.Gates {
		selectors := s.selectors(q, g)
		if len(selectors) == 0 || !slices.ContainsFunc(counters[selectors[0]], func(c series) bool { return c.present }) {
			continue
		}
		first, last := counters[selectors[0]], counters[selectors[len(selectors)-1]]
		switch g.Type {
		case rollout.ErrorRate:
			into[g.Name] = countErrors(first, g, q)
		case rollout.Latency:
			into[g.Name] = countSlow(first, w, g, q)
		case rollout.Mean, rollout.EnergyPerRequest:
			into[g.Name] = countMeans(first, last, g, q)
		case rollout.SampleRatio:
			into[g.Name] = countUnits(first, g, q)
		case rollout.Data:
			into[g.Name] = countAnswers(first, last, g, q)
		case rollout.Alerts:
		}
	}
}
