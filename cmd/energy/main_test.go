package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/cmd/internal/run"
)

const uid = "01234567-89ab-cdef-0123-456789abcdef"

// host is a node made of files, with one model server in the pod uid. Its time n counts steps of 10 J by the package,
// 100 ms busy, of which 60 ms in the pod, of which 45 ms for v2's 9 inferences.
type host struct {
	t    *testing.T
	root string
}

func (h *host) write(name, content string) {
	h.t.Helper()
	path := filepath.Join(h.root, name)
	err := errors.Join(
		os.MkdirAll(filepath.Dir(path), 0o755),
		os.WriteFile(path+".next", []byte(content), 0o644),
		os.Rename(path+".next", path))
	if err != nil {
		h.t.Error(err)
	}
}

func (h *host) pod(n int) {
	h.write("cgroup/kubepods/pod"+uid+"/cpu.stat", fmt.Sprintf("usage_usec %d\n", 60_000*n))
}

func (h *host) node(n int) {
	h.write("proc/stat", fmt.Sprintf("cpu %d 0 0 0 0 0 0 0\ncpu0 0\ncpu1 0\ncpu2 0\ncpu3 0\n", 10*n))
	h.write("sys/class/powercap/intel-rapl:0/energy_uj", fmt.Sprintln(10_000_000*n))
}

// serve answers scrapes up to time last, and closes done when the reading at that time has been booked. A reading asks
// the pods, then the model server, then the node: at each scrape the node is brought to the server's time, and the pods
// to the next.
func (h *host) serve(last int, done chan<- struct{}) http.HandlerFunc {
	scrapes := 0
	return func(w http.ResponseWriter, _ *http.Request) {
		n := min(scrapes, last)
		h.node(n)
		h.pod(min(n+1, last))
		fmt.Fprintf(w, "siskin_serving_cpu_seconds_total{model=\"coolant\",version=\"v2\"} %g\n", 0.045*float64(n))
		fmt.Fprintf(w, "siskin_inferences_total{model=\"coolant\",version=\"v2\"} %d\n", 9*n)
		if scrapes == last+1 {
			close(done)
		}
		scrapes++
	}
}

// TestEnergy runs the binary's body on such a node and reads its metrics as Prometheus does.
func TestEnergy(t *testing.T) {
	h := &host{t: t, root: t.TempDir()}
	h.write("cgroup/cgroup.controllers", "cpu\n")
	h.write("sys/class/powercap/intel-rapl:0/name", "package-0\n")
	h.write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n")
	h.pod(0)
	h.node(0)
	done := make(chan struct{})
	server := httptest.NewServer(h.serve(3, done))
	t.Cleanup(server.Close)
	metrics := start(t, "--sysfs", h.root+"/sys", "--procfs", h.root+"/proc", "--cgroup-root", h.root+"/cgroup",
		"--node-name", "n1", "--static-watts", "0", "--interval", "100ms", "--serving-metrics", uid+"="+server.URL)
	<-done
	got := metrics()
	for _, want := range []string{
		`siskin_energy_measured_joules_total{node="n1",source="rapl"} 30`,
		`siskin_energy_node_joules_total{node="n1",source="rapl",zone="package-0"} 30`,
		`siskin_inference_joules_total{model="coolant",node="n1",scope="dynamic",source="rapl",version="v2"} 13.5`,
		`siskin_energy_inferences_total{model="coolant",node="n1",version="v2"} 27`,
		`siskin_energy_pod_joules_total{node="n1",pod_uid="` + uid + `",scope="full",source="rapl"} 18`,
		`siskin_energy_system_joules_total{node="n1",source="rapl"} 12`,
		`siskin_energy_attribution_residual_microjoules{node="n1"} 0`,
		`siskin_energy_meter_info{node="n1",quality="measured",source="rapl"} 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("metrics must have %s: got\n%s", want, got)
		}
	}
}

// start runs the body with the arguments until the test ends, and returns a function that scrapes it.
func start(t *testing.T, args ...string) func() string {
	t.Helper()
	fs := flag.NewFlagSet("energy", flag.ContinueOnError)
	body := bind(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	logs, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		log := slog.New(slog.NewJSONHandler(out, nil))
		ended <- run.Run(ctx, run.Options{Name: "energy", Admin: "127.0.0.1:0", Log: log}, body)
		out.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the process ended with %v", err)
		}
	})
	address := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			var entry struct{ Server, Address string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Server == "admin" {
				address <- entry.Address
			}
		}
	}()
	return func() string {
		select {
		case a := <-address:
			return get(t, "http://"+a+"/metrics")
		case <-time.After(time.Minute):
			t.Fatal("no admin server after 10 s")
			return ""
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %d, %v", url, resp.StatusCode, err)
	}
	return string(body)
}

// A machine without counters is modelled, and says so.
func TestEnergyModelled(t *testing.T) {
	h := &host{t: t, root: t.TempDir()}
	h.write("cgroup/cgroup.controllers", "cpu\n")
	h.pod(0)
	h.node(0)
	if err := os.RemoveAll(filepath.Join(h.root, "sys")); err != nil {
		t.Fatal(err)
	}
	metrics := start(t, "--sysfs", h.root+"/sys", "--procfs", h.root+"/proc", "--cgroup-root", h.root+"/cgroup")
	if got, want := metrics(), `siskin_energy_meter_info{quality="modelled",source="model"} 1`; !strings.Contains(got, want) {
		t.Errorf("metrics must have %s: got\n%s", want, got)
	}
}

func TestEnergyRefuses(t *testing.T) {
	h := &host{t: t, root: t.TempDir()}
	h.write("cgroup/cgroup.controllers", "cpu\n")
	h.pod(0)
	h.node(0)
	good := []string{"--sysfs", h.root + "/none", "--procfs", h.root + "/proc", "--cgroup-root", h.root + "/cgroup"}
	cases := map[string]struct {
		reason string
		args   []string
		want   string
	}{
		"Interval": {"too long for the fastest wrap", []string{"--interval", "1m"}, "--interval 1m0s"},
		"Bare":     {"a server in nobody's pod, on a node with pods", []string{"--serving-metrics", "http://a/metrics"}, "POD_UID=http://a/metrics"},
		"Cgroups":  {"no cgroups there", []string{"--cgroup-root", h.root + "/none"}, "finding cgroups"},
		"Proc":     {"no /proc/stat there", []string{"--procfs", h.root + "/none"}, "reading busy time"},
		"Watts":    {"less than nothing", []string{"--static-watts", "-1"}, "power -1 W"},
		"PerCPU":   {"no number", []string{"--watts-per-cpu", "many"}, `watts "many"`},
		"Target":   {"no URL", []string{"--serving-metrics", "http://a/metrics,b"}, `target "b"`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			fs := flag.NewFlagSet("energy", flag.ContinueOnError)
			fs.SetOutput(io.Discard)
			body := bind(fs)
			err := fs.Parse(append(good, tc.args...))
			if err == nil {
				err = run.Run(t.Context(), run.Options{Name: "energy"}, body)
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want an error that says %q", tc.reason, err, tc.want)
			}
		})
	}
}
