package evidence

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/siskin-dev/siskin/rollout"
)

// metric names a series with labels given as pairs.
func metric(name string, pairs ...string) string {
	var labels []string
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, fmt.Sprintf("%s=%q", pairs[i], pairs[i+1]))
	}
	return name + "{" + strings.Join(labels, ",") + "," + on(1) + "}"
}

func joulesOf(version, scope, source string) string {
	return metric("siskin_inference_joules_total", "model", "coolant", "version", version, "scope", scope, "source", source)
}

func inferencesOf(version string) string {
	return metric("siskin_energy_inferences_total", "model", "coolant", "version", version)
}

// TestCountGates: samples come every 5 s, and each block of 15 s has three.
func TestCountGates(t *testing.T) {
	energy := rollout.Gate{Name: "gate", Type: rollout.EnergyPerRequest}
	mean := rollout.Gate{Name: "gate", Type: rollout.Mean, VersionLabel: "version", Sum: "wait_seconds_sum", Count: "wait_seconds_count"}
	units := rollout.Gate{Name: "gate", Type: rollout.SampleRatio}
	data := rollout.Gate{Name: "gate", Type: rollout.Data}
	served := rollout.Gate{Name: "gate", Type: rollout.Data, VersionLabel: "version", Count: "siskin_gateway_sent_requests_total", Sum: "siskin_serving_requests_total"}
	envoy := served
	envoy.Count = `envoy_cluster_upstream_rq_total{cluster_name=~"outbound\\|8080\\|.*\\|coolant\\.edge\\.svc\\.cluster\\.local"}`
	byBucket := rollout.Gate{Name: "gate", Type: rollout.ErrorRate, BucketLabel: "siskin_bucket"}
	tests := map[string]struct {
		reason string
		gate   rollout.Gate
		series string
		want   rollout.Counts
	}{
		"Energy": {
			"joules and inferences of the same version",
			energy,
			joulesOf("v1", "dynamic", "rapl") + " 5+2x9\n" + inferencesOf("v1") + " 7+4x9\n" +
				joulesOf("v2", "dynamic", "rapl") + " 5+0.5x9\n" + inferencesOf("v2") + " 7+1x9",
			rollout.Counts{Stable: rollout.Arm{Sum: 6, Requests: 12}, Canary: rollout.Arm{Sum: 1.5, Requests: 3}},
		},
		"IdleEnergy": {
			"idle joules are spread over requests and depend on the weight: not counted",
			energy,
			joulesOf("v1", "full", "rapl") + " 5+9x9\n" + joulesOf("v1", "dynamic", "rapl") + " 5+2x9\n" + inferencesOf("v1") + " 7+4x9",
			rollout.Counts{Stable: rollout.Arm{Sum: 6, Requests: 12}},
		},
		"HalfOfAPair": {
			"requests without joules would look like requests for nothing",
			energy,
			joulesOf("v1", "dynamic", "rapl") + " 5+2x9\n" + inferencesOf("v1") + " 7+4x9\n" + inferencesOf("v2") + " 7+1x9",
			rollout.Counts{Stable: rollout.Arm{Sum: 6, Requests: 12}},
		},
		"TornPair": {
			"where only some counters of a process fell, none of its pair is counted",
			energy,
			joulesOf("v1", "dynamic", "rapl") + " 5 7 1 2\n" + inferencesOf("v1") + " 7 8 9 10",
			rollout.Counts{},
		},
		"Mean": {
			"a mean without buckets is one pair a block",
			mean,
			metric("wait_seconds_sum", "version", "v1", "bucket", "7") + " 0+1x9\n" + metric("wait_seconds_sum", "version", "v1", "bucket", "none") + " 0+1x9\n" +
				metric("wait_seconds_count", "version", "v1") + " 0+2x9\n" + metric("wait_seconds_sum", "version", "") + " 0+7x9\n" +
				metric("wait_seconds_sum", "version", "v2") + " 1x9\n" + metric("wait_seconds_count", "version", "v2") + " 0+1x9",
			rollout.Counts{Stable: rollout.Arm{Sum: 6, Requests: 6}, Canary: rollout.Arm{Requests: 3}},
		},
		"Units": {
			"units of both versions; a version appears with its first unit",
			units,
			metric("siskin_units_total", "model", "coolant", "version", "v1") + " 40 50 60 65\n" +
				metric("siskin_units_total", "model", "coolant", "version", "v2") + " _ _ 2 3\n" +
				metric("siskin_units_total", "model", "other", "version", "v2") + " 0+9x4",
			rollout.Counts{Stable: rollout.Arm{Requests: 25}, Canary: rollout.Arm{Requests: 3}},
		},
		"NoUnits": {
			"a counter that stands still has counted nobody: no units, but data",
			units,
			metric("siskin_units_total", "model", "coolant", "version", "v1") + " 40x4",
			rollout.Counts{},
		},
		"Answers": {
			"of what was sent, what the client gave up and what got no reply was not answered",
			data,
			requests("v1", "200", `response_flags="-"`, on(1)) + " 0+4x9\n" + requests("v1", "503", `response_flags="UC"`, on(1)) + " 0+1x9\n" +
				requests("v2", "200", `response_flags="-"`, on(1)) + " 0+1x9\n" + requests("v2", "0", `response_flags="DC"`, on(1)) + " 0+2x9\n" +
				requests("v2", "429", `response_flags="RL"`, on(1)) + " 0+5x9\n" + requests("v2", "429", `response_flags="RLSE"`, on(1)) + " 0+5x9\n" + requests("v2", "200", `response_flags="DC"`, on(1)) + " 0+1x9",
			rollout.Counts{Stable: rollout.Arm{Requests: 15, Sum: 15}, Canary: rollout.Arm{Requests: 12, Sum: 3}},
		},
		"Served": {
			"sent by the gateway, answered by the model server: each names the version by a label of its own",
			served,
			metric("siskin_gateway_sent_requests_total", "destination_version", "v1") + " 0+4x9\n" + metric("siskin_gateway_sent_requests_total", "destination_version", "v2") + " 0+2x9\n" +
				metric("siskin_serving_requests_total", "version", "v1", "code", "200") + " 0+3x9\n" + metric("siskin_serving_requests_total", "version", "v1", "code", "500") + " 0+1x9\n" +
				metric("siskin_serving_requests_total", "version", "v2", "code", "200") + " 0x9",
			rollout.Counts{Stable: rollout.Arm{Requests: 12, Sum: 12}, Canary: rollout.Arm{Requests: 6}},
		},
		"Envoy": {
			"Envoy counts a request when it is sent, and names the version in its cluster",
			envoy,
			metric("envoy_cluster_upstream_rq_total", "cluster_name", "outbound|8080|v1|coolant.edge.svc.cluster.local") + " 0+4x9\n" +
				metric("envoy_cluster_upstream_rq_total", "cluster_name", "outbound|8080|v2|coolant.edge.svc.cluster.local") + " 0+1x9\n" +
				metric("envoy_cluster_upstream_rq_total", "cluster_name", "outbound|8080||coolant.edge.svc.cluster.local") + " 0+9x9\n" +
				metric("siskin_serving_requests_total", "version", "v1", "code", "200") + " 0+4x9\n" + metric("siskin_serving_requests_total", "version", "v2", "code", "200") + " 0+1x9",
			rollout.Counts{Stable: rollout.Arm{Requests: 12, Sum: 12}, Canary: rollout.Arm{Requests: 3, Sum: 3}},
		},
		"NobodyAsked": {
			"a version whose answers nobody counts has no data; that is not the same as no answers",
			served,
			metric("siskin_gateway_sent_requests_total", "destination_version", "v2") + " 0+2x9",
			rollout.Counts{},
		},
		"Buckets": {
			"errors by bucket; a series without a valid one still counts in the sums",
			byBucket,
			requests("v1", "200", `siskin_bucket="07"`, on(1)) + " 0+4x9\n" + requests("v1", "503", `siskin_bucket="07"`, on(1)) + " 0+1x9\n" +
				requests("v1", "200", `siskin_bucket="7"`, on(1)) + " 0+1x9\n" + requests("v1", "200", `siskin_bucket="unknown"`, on(1)) + " 0+2x9\n" +
				requests("v1", "500", `siskin_bucket="100"`, on(1)) + " 0+1x9\n" + requests("v1", "500", on(1)) + " 0+1x9\n" +
				requests("v1", "0", `siskin_bucket="07"`, `response_flags="DC"`, on(1)) + " 0+1x9\n" +
				requests("v2", "503", `siskin_bucket="99"`, on(1)) + " 0+1x9\n" + requests("v2", "200", `siskin_bucket="98"`, on(1)) + " 5x9",
			rollout.Counts{
				Stable: rollout.Arm{Requests: 30, Events: []float64{9}, Buckets: []rollout.BucketSum{{Bucket: 7, Sum: 3, Count: 18}}},
				Canary: rollout.Arm{Requests: 3, Events: []float64{3}, Buckets: []rollout.BucketSum{{Bucket: 99, Sum: 3, Count: 3}}},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			s.load(tc.series)
			got, ok := s.ask(0, 1, tc.gate)[0].Counts["gate"]
			if tc.want.Stable.Events == nil && tc.gate.Type == rollout.ErrorRate {
				t.Fatal("the case has no events")
			}
			if d := cmp.Diff(tc.want, got, notSent); d != "" || !ok {
				t.Errorf("%s: -want +got (an entry: %t)\n%s", tc.reason, ok, d)
			}
		})
	}
}

// TestModelledEnergy: what is modelled or made up is no evidence, unless the gate asks for it by a selector of its own.
func TestModelledEnergy(t *testing.T) {
	for _, source := range []string{"model", "fixture"} {
		s := newStore(t)
		s.load(joulesOf("v1", "dynamic", source) + " 5+2x9\n" + inferencesOf("v1") + " 7+4x9")
		gate := rollout.Gate{Name: "energy", Type: rollout.EnergyPerRequest}
		if c, ok := s.ask(0, 1, gate)[0].Counts["energy"]; ok {
			t.Errorf("joules of source %q were counted: %+v", source, c)
		}
		gate.Sum = `siskin_inference_joules_total{model="coolant",scope="dynamic"}`
		want := rollout.Counts{Stable: rollout.Arm{Sum: 6, Requests: 12}}
		if d := cmp.Diff(want, s.ask(0, 1, gate)[0].Counts["energy"]); d != "" {
			t.Errorf("source %q asked for: -want +got\n%s", source, d)
		}
	}
}
