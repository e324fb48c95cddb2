package controlplane

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/siskin-dev/siskin/test/process"
)

// Controller is a replica of the rollout controller.
type Controller struct {
	*process.Process
	// Admin serves /metrics, and Webhook takes Alertmanager's notifications.
	Admin, Webhook string
}

// built is the path of the rollout controller, which is linked once for all tests of a process.
var built = sync.OnceValues(func() (string, error) { return BuildOurs(context.Background(), "rollout-controller") })

// StartController runs a replica with the chart's arguments, as the chart's service account, until the test ends. It asks
// the Prometheus at the URL. More are further arguments. It may wait for another replica to leave.
func (p *Plane) StartController(name, prometheus string, more ...string) *Controller {
	p.tb.Helper()
	path, err := built()
	if err != nil {
		p.tb.Fatal(err)
	}
	admin, webhook := process.FreeAddr(p.tb), process.FreeAddr(p.tb)
	args := append([]string{}, p.arguments...)
	args = append(args, "--kubeconfig="+p.Kubeconfig(p.controller), "--lease-namespace="+Namespace, "--prometheus-url="+prometheus,
		"--admin="+admin, "--webhook-listen="+webhook)
	c := &Controller{Admin: "http://" + admin, Webhook: "http://" + webhook + "/api/v1/alerts"}
	c.Process = process.Run(p.tb, p.dir, name, path, nil, append(args, more...)...)
	p.until(name, c.Process, process.Answers(c.Admin+"/healthz"))
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
	addr, file := process.FreeAddr(p.tb), p.path("prometheus.yaml")
	p.write(file, config)
	server := process.Run(p.tb, p.dir, "prometheus", path, nil, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(p.dir, "tsdb"),
		"--web.listen-address="+addr, "--log.level=warn")
	p.until("Prometheus", server, process.Answers("http://"+addr+"/-/ready"))
	return "http://" + addr
}

// Asked is what somebody asked of the API server, and what it answered.
type Asked struct {
	// Other is who asked; empty for the controller.
	Other           string
	Verb            string
	Group, Kind     string // Kind is the resource's name, with its subresource: "rollouts/status"
	Namespace, Name string // of an object that somebody else wrote
	Code            int32
}

// auditPolicy makes the API server write down every request of the controller, and everybody's writes of the kinds that it
// writes for a rollout.
func (p *Plane) auditPolicy() string {
	return `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["` + p.controller.name + `"]}
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - {group: networking.istio.io, resources: [virtualservices, destinationrules, envoyfilters]}
  - {group: monitoring.coreos.com, resources: [prometheusrules]}
  - {group: "", resources: [configmaps]}
- {level: None}
`
}

// Audit counts what was asked for since the start.
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
			User           struct{ Username string }
			ObjectRef      struct{ APIGroup, Resource, Subresource, Namespace, Name string }
			ResponseStatus struct{ Code int32 }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			p.tb.Fatalf("reading the audit log: %v", err)
		}
		a := Asked{Verb: e.Verb, Group: e.ObjectRef.APIGroup, Kind: e.ObjectRef.Resource, Code: e.ResponseStatus.Code}
		if e.ObjectRef.Subresource != "" {
			a.Kind += "/" + e.ObjectRef.Subresource
		}
		if e.User.Username != p.controller.name {
			a.Other, a.Namespace, a.Name = e.User.Username, e.ObjectRef.Namespace, e.ObjectRef.Name
		}
		out[a]++
	}
	if err := lines.Err(); err != nil {
		p.tb.Fatalf("reading the audit log: %v", err)
	}
	return out
}
