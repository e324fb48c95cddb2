package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/siskin-dev/siskin/cmd/internal/run"
)

const models = "../local/data/models"

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// place copies files of a demo model to dir, the model file last, as a careful upload would.
func place(t *testing.T, dir, model string) {
	t.Helper()
	for _, file := range []string{"golden.csv", "metadata.json", "model.ubj"} {
		data, err := os.ReadFile(filepath.Join(models, model, file))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), data)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// goldenRow returns the first golden row of a model as JSON numbers, and its prediction.
func goldenRow(t *testing.T, model string) (row string, pred float64) {
	t.Helper()
	f, err := os.Open(filepath.Join(models, model, "golden.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	pred, err = strconv.ParseFloat(records[1][13], 64)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(records[1][:12], ","), pred
}

// get returns status and body, or 0 and the error while nobody listens.
func get(url string) (int, string) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

func predict(url, row string) (float64, error) {
	body := `{"inputs":[{"name":"input0","datatype":"FP32","shape":[1,12],"data":[` + row + `]}]}`
	resp, err := http.Post(url+"/v2/models/coolant/infer", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Version string `json:"model_version"`
		Outputs []struct{ Data []float64 }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK || answer.Version != "live" || len(answer.Outputs) != 1 || len(answer.Outputs[0].Data) != 1 {
		return 0, fmt.Errorf("answer %d %+v", resp.StatusCode, answer)
	}
	return answer.Outputs[0].Data[0], nil
}

// until asks again until ok, within the test's patience.
func until(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(time.Minute)
	for {
		done, last := ok()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("waiting for %s: last %s", what, last)
		}
	}
}

// failures reads the counter of failed loads. It already counts the turns at which the folder was empty.
func failures(t *testing.T, admin string) float64 {
	t.Helper()
	_, body := get("http://" + admin + "/metrics")
	_, after, found := strings.Cut(body, `siskin_serving_model_load_failures_total{model="coolant",version="live"} `)
	text, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseFloat(text, 64)
	if !found || err != nil {
		t.Fatalf("reading metrics: %q, %v", text, err)
	}
	return n
}

// TestServing runs the binary's body from an empty folder through a model, a broken one and another model.
func TestServing(t *testing.T) {
	dir, listen, admin := t.TempDir(), freeAddr(t), freeAddr(t)
	fs := flag.NewFlagSet("serving", flag.ContinueOnError)
	body := bind(fs)
	err := fs.Parse([]string{"--listen", listen, "--model", "coolant", "--version", "live", "--storage-uri", dir, "--refresh", "20ms"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run.Run(ctx, run.Options{Name: "serving", Admin: admin}, body) }()
	api := "http://" + listen
	status := func(url string, code int, says string) func() (bool, string) {
		return func() (bool, string) {
			got, body := get(url)
			return got == code && strings.Contains(body, says), fmt.Sprint(got, " ", body)
		}
	}
	answers := func(model string) func() (bool, string) {
		row, want := goldenRow(t, model)
		return func() (bool, string) {
			got, err := predict(api, row)
			return err == nil && got == want, fmt.Sprint(got, " ", err)
		}
	}

	until(t, "not ready without a model", status(api+"/v2/health/ready", 503, "coolant live"))
	until(t, "admin not ready", status("http://"+admin+"/readyz", 503, "models"))
	place(t, dir, "v1")
	until(t, "ready", status(api+"/v2/health/ready", 200, ""))
	until(t, "admin ready", status("http://"+admin+"/readyz", 200, ""))
	until(t, "answers of v1", answers("v1"))
	until(t, "metadata", status(api+"/v2/models/coolant", 200, `"ENGINE_RPM"`))

	before := failures(t, admin)
	write(t, filepath.Join(dir, "model.ubj"), []byte("{i\x01"))
	until(t, "the failed load", func() (bool, string) {
		n := failures(t, admin)
		return n > before, fmt.Sprint(n)
	})
	if ok, last := answers("v1")(); !ok {
		t.Errorf("after a broken model: %s, want v1's answer", last)
	}
	place(t, dir, "v2")
	until(t, "answers of v2", answers("v2"))
	until(t, "CPU time", func() (bool, string) {
		_, body := get("http://" + admin + "/metrics")
		return strings.Contains(body, `siskin_serving_cpu_seconds_total{model="coolant",version="live"}`), body
	})

	cancel()
	if err := <-done; err != nil {
		t.Errorf("the process ended with %v", err)
	}
	if code, _ := get(api + "/v2/health/live"); code != 0 {
		t.Errorf("still answers %d after the end", code)
	}
}

func TestWrongFlags(t *testing.T) {
	for reason, args := range map[string][]string{
		"unknown scheme":   {"--storage-uri", "gs://models"},
		"address in error": {"--listen", "nowhere:-1", "--storage-uri", t.TempDir()},
		"no refresh":       {"--refresh", "0s", "--storage-uri", t.TempDir()},
	} {
		fs := flag.NewFlagSet("serving", flag.ContinueOnError)
		body := bind(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		if err := run.Run(t.Context(), run.Options{Name: "serving"}, body); err == nil {
			t.Errorf("%s: no error", reason)
		}
	}
}
