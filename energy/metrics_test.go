package energy

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const wantScrape = `
# HELP siskin_energy_attributed_joules_total Dynamic energy of all parties, the system included.
# TYPE siskin_energy_attributed_joules_total counter
siskin_energy_attributed_joules_total{source="fixture"} 10
# HELP siskin_energy_attribution_residual_microjoules Measured less attributed, idle and unallocated energy. Anything but 0 is a bug.
# TYPE siskin_energy_attribution_residual_microjoules gauge
siskin_energy_attribution_residual_microjoules 0
# HELP siskin_energy_idle_joules_total Energy of the idle node given to parties by their CPU requests.
# TYPE siskin_energy_idle_joules_total counter
siskin_energy_idle_joules_total{source="fixture"} 1
# HELP siskin_energy_inferences_total Inferences answered in the intervals that siskin_inference_joules_total covers.
# TYPE siskin_energy_inferences_total counter
siskin_energy_inferences_total{model="coolant",version="v1"} 7
# HELP siskin_energy_measured_joules_total Energy of the zones that do not overlap: attributed + idle + unallocated.
# TYPE siskin_energy_measured_joules_total counter
siskin_energy_measured_joules_total{source="fixture"} 14
# HELP siskin_energy_meter_info Where energy readings come from, and whether they are measured or modelled.
# TYPE siskin_energy_meter_info gauge
siskin_energy_meter_info{quality="measured",source="fixture"} 1
# HELP siskin_energy_node_joules_total Energy measured by zone since the start. Zones overlap.
# TYPE siskin_energy_node_joules_total counter
siskin_energy_node_joules_total{source="fixture",zone="package-0"} 14
# HELP siskin_energy_pod_joules_total Energy that a pod used, its model versions included.
# TYPE siskin_energy_pod_joules_total counter
siskin_energy_pod_joules_total{pod_uid="a",scope="dynamic",source="fixture"} 5
siskin_energy_pod_joules_total{pod_uid="a",scope="full",source="fixture"} 6
# HELP siskin_energy_read_failures_total Reads that failed in whole or in part.
# TYPE siskin_energy_read_failures_total counter
siskin_energy_read_failures_total{reader="busy"} 0
siskin_energy_read_failures_total{reader="meter"} 0
siskin_energy_read_failures_total{reader="usage"} 0
# HELP siskin_energy_refused_readings_total Readings refused because they cannot be true.
# TYPE siskin_energy_refused_readings_total counter
siskin_energy_refused_readings_total{reader="busy",reason="jump"} 0
siskin_energy_refused_readings_total{reader="busy",reason="reset"} 0
siskin_energy_refused_readings_total{reader="busy",reason="sentinel"} 0
siskin_energy_refused_readings_total{reader="meter",reason="jump"} 0
siskin_energy_refused_readings_total{reader="meter",reason="reset"} 0
siskin_energy_refused_readings_total{reader="meter",reason="sentinel"} 0
siskin_energy_refused_readings_total{reader="usage",reason="jump"} 0
siskin_energy_refused_readings_total{reader="usage",reason="reset"} 0
siskin_energy_refused_readings_total{reader="usage",reason="sentinel"} 0
# HELP siskin_energy_system_joules_total Dynamic energy of what is no party: kernel, daemons, other processes.
# TYPE siskin_energy_system_joules_total counter
siskin_energy_system_joules_total{source="fixture"} 1
# HELP siskin_energy_unallocated_joules_total Energy of the idle node that no party requested.
# TYPE siskin_energy_unallocated_joules_total counter
siskin_energy_unallocated_joules_total{source="fixture"} 3
# HELP siskin_inference_joules_total Energy that a model version's inferences used. Scope full adds the version's share of the idle node to dynamic.
# TYPE siskin_inference_joules_total counter
siskin_inference_joules_total{model="coolant",scope="dynamic",source="fixture",version="v1"} 7
siskin_inference_joules_total{model="coolant",scope="full",source="fixture",version="v1"} 7.6
`

// One golden scrape: two instances serve v1, one of them a pod.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	node := newFakeNode()
	c := newTestCollector(t, node, Options{StaticMicrowatts: 4e6, Metrics: NewMetrics(reg)})
	set := func(ms, inferences, joules uint64) {
		node.setZone(joules * 1e6)
		node.busy.Nanoseconds = 10 * ms * 1e6
		node.parties = []Party{
			{ID: ID{Instance: "a"}, CPU: 5 * ms * 1e6, Requests: 1000},
			{ID: ID{"a", "coolant", "v1"}, CPU: 3 * ms * 1e6, Inferences: 3 * inferences},
			{ID: ID{"b", "coolant", "v1"}, CPU: 4 * ms * 1e6, Inferences: 4 * inferences},
		}
	}
	set(0, 0, 0)
	collect(t, c)
	node.advance(time.Second)
	set(100, 1, 14)
	collect(t, c)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(wantScrape)); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		// The residual is in the unit of the books on purpose: it must be the integer 0.
		if p.Metric != "siskin_energy_attribution_residual_microjoules" {
			t.Errorf("lint: %+v", p)
		}
	}
}

// The sum of node counters as a scrape sees them holds from the very first one on.
func TestMetricsBeforeAnyReading(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
		t.Errorf("no collector yet: got %d series, %v", n, err)
	}
	newTestCollector(t, newFakeNode(), Options{Metrics: m})
	if n, err := testutil.GatherAndCount(reg, "siskin_energy_meter_info", "siskin_energy_measured_joules_total"); n != 2 || err != nil {
		t.Errorf("before the first reading: got %d series, %v", n, err)
	}
	newTestCollector(t, newFakeNode(), Options{Metrics: NewMetrics(nil)})
}

func TestMetricsWhileCollecting(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	node := newFakeNode()
	node.setZone(0)
	node.parties = []Party{{ID: version("v1")}}
	c := newTestCollector(t, node, Options{Metrics: NewMetrics(reg)})
	var scrapes sync.WaitGroup
	for range 4 {
		scrapes.Go(func() {
			for range 50 {
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 200 {
		collect(t, c)
	}
	scrapes.Wait()
}
