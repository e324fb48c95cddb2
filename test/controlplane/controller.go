package controlplane

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Controller is a replica of the rollout controller.
type Controller struct {
	*Process
	// Admin serves /metrics, and Webhook takes Alertmanager's notifications.
	Admin, Webhook string
}

// StartController runs a replica with the chart's arguments, as the chart's service account, until the test ends. It asks
// the Prometheus at the URL. More are further arguments. It may wait for another replica to leave.
func (p *Plane) StartController(name, prometheus string, more ...string) *Controller {
	p.tb.Helper()
	if p.built == "" {
		path, err := BuildController(p.tb.Context(), p.dir)
		if err != nil {
			p.tb.Fatal(err)
		}
		p.built = path
	}
	admin, webhook := freeAddr(p.tb), freeAddr(p.tb)
	args := append([]string{}, p.arguments...)
	args = append(args, "--kubeconfig="+p.Kubeconfig(p.controller), "--lease-namespace="+Namespace, "--prometheus-url="+prometheus,
		"--admin="+admin, "--webhook-listen="+webhook)
	c := &Controller{Admin: "http://" + admin, Webhook: "http://" + webhook + "/api/v1/alerts"}
	c.Process = run(p.tb, p.dir, name, p.built, nil, append(args, more...)...)
	p.until(name, c.Process, get(c.Admin+"/healthz"))
	return c
}

// arguments are those with which a Deployment runs its only container.
func arguments(tb testing.TB, deployment *unstructured.Unstructured) []string {
	tb.Helper()
	containers, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) != 1 {
		tb.Fatalf("reading the chart's Deployment: %d containers, %v; want one", len(containers), err)
	}
	args, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
	if err != nil || len(args) == 0 {
		tb.Fatalf("reading the chart's Deployment: arguments %q, %v", args, err)
	}
	return args
}

// StartPrometheus runs a Prometheus with the configuration until the test ends, and returns its URL.
func (p *Plane) StartPrometheus(config string) string {
	p.tb.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		p.tb.Fatal("prometheus is not installed: apt-get install prometheus")
	}
	addr, file := freeAddr(p.tb), p.path("prometheus.yaml")
	p.write(file, config)
	process := run(p.tb, p.dir, "prometheus", path, nil, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(p.dir, "tsdb"),
		"--web.listen-address="+addr, "--log.level=warn")
	p.until("Prometheus", process, get("http://"+addr+"/-/ready"))
	return "http://" + addr
}

// Asked is what the controller asked of the API server, and what it was told.
type Asked struct {
	Verb        string
	Group, Kind string // Kind is the resource's name, with its subresource: "rollouts/status"
	Code        int32
}

// auditPolicy makes the API server write down every request of the controller.
func (p *Plane) auditPolicy() string {
	return `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["` + p.controller.name + `"]}
- {level: None}
`
}

// Audit counts what the controller has asked for since the start.
func (p *Plane) Audit() map[Asked]int {
	p.tb.Helper()
	file, err := os.Open(p.path("audit.log"))
	if err != nil {
		p.tb.Fatal(err)
	}
	defer file.Close()
	out := map[Asked]int{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Verb           string
			ObjectRef      struct{ APIGroup, Resource, Subresource string }
			ResponseStatus struct{ Code int32 }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			p.tb.Fatalf("reading the audit log: %v", err)
		}
		a := Asked{Verb: e.Verb, Group: e.ObjectRef.APIGroup, Kind: e.ObjectRef.Resource, Code: e.ResponseStatus.Code}
		if e.ObjectRef.Subresource != "" {
			a.Kind += "/" + e.ObjectRef.Subresource
		}
		out[a]++
	}
	if err := lines.Err(); err != nil {
		p.tb.Fatalf("reading the audit log: %v", err)
	}
	return out
}
