package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Namespace is where the chart is installed, and account the controller's service account in it.
const (
	Namespace = "siskin-system"
	account   = "siskin-controller"
)

// owner is the field manager of what the tests write.
const owner = client.FieldOwner("test")

// install creates what a cluster has before somebody makes a rollout: Istio's kinds, those of the Prometheus operator, of
// KServe and of Seldon, and what the chart brings, but for Siskin's own Deployment: the test runs the binary.
func (p *Plane) install() {
	p.tb.Helper()
	root, err := moduleRoot(p.tb.Context())
	if err != nil {
		p.tb.Fatal(err)
	}
	istio, err := output(p.tb.Context(), root, "go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api")
	if err != nil {
		p.tb.Fatal(err)
	}
	kserve, err := download(p.tb.Context(), root, "github.com/kserve/kserve@v0.20.0")
	if err != nil {
		p.tb.Fatal(err)
	}
	for _, path := range []string{
		filepath.Join(istio, "kubernetes", "customresourcedefinitions.gen.yaml"),
		filepath.Join(root, "..", "cmd", "local", "kube", "crds", "prometheusrule.yaml"),
		filepath.Join(kserve, "config", "crd", "full", "serving.kserve.io_inferenceservices.yaml"),
		filepath.Join(root, "..", "mesh", "gatewayapi", "testdata", "crds", "httproute.yaml"),
		filepath.Join(root, "..", "mesh", "seldon", "testdata", "crds", "experiment.yaml"),
		filepath.Join(root, "..", "mesh", "seldon", "testdata", "crds", "model.yaml"),
	} {
		p.Apply(documents(p.tb, path)...)
	}
	p.established()
	p.Apply(NamespaceOf("istio-system"), NamespaceOf(Namespace))
	for _, o := range rendered(p.tb, filepath.Join(root, "..", "charts", "siskin")) {
		if o.GetKind() == "Deployment" {
			p.arguments = arguments(p.tb, o)
			continue
		}
		p.Apply(o)
	}
	p.established()
}

// gatewayKinds creates the kinds of the Gateway API that the installation leaves out, as istiod knows them.
func (p *Plane) gatewayKinds() {
	p.tb.Helper()
	dir, err := download(p.tb.Context(), "", "sigs.k8s.io/gateway-api@v1.6.0")
	if err != nil {
		p.tb.Fatal(err)
	}
	for _, kind := range []string{"gatewayclasses", "gateways"} {
		p.Apply(documents(p.tb, filepath.Join(dir, "config", "crd", "standard", "gateway.networking.k8s.io_"+kind+".yaml"))...)
	}
	p.established()
}

// download is the folder of a module of which the tests read files and build nothing: it is not in go.mod.
func download(ctx context.Context, root, module string) (string, error) {
	text, err := output(ctx, root, "go", "mod", "download", "-json", module)
	if err != nil {
		return "", err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Dir == "" {
		return "", fmt.Errorf("downloading module %s: %w\n%s", module, err, text)
	}
	return m.Dir, nil
}

// rendered is what the chart installs, with every provider.
func rendered(tb testing.TB, path string) []*unstructured.Unstructured {
	tb.Helper()
	chart, err := loader.LoadDir(path)
	if err != nil {
		tb.Fatal(err)
	}
	release := common.ReleaseOptions{Name: "siskin", Namespace: Namespace, Revision: 1, IsInstall: true}
	providers := map[string]any{"controller": map[string]any{"providers": []any{"Istio", "GatewayAPI", "NGINX", "Service", "Seldon", "KServe"}, "globalRateLimits": true}}
	values, err := util.ToRenderValues(chart, providers, release, common.DefaultCapabilities)
	if err != nil {
		tb.Fatal(err)
	}
	files, err := engine.Render(chart, values)
	if err != nil {
		tb.Fatal(err)
	}
	var all []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) == ".yaml" {
			all = append(all, parse(tb, name, files[name])...)
		}
	}
	return all
}

// documents are the objects in a file.
func documents(tb testing.TB, path string) []*unstructured.Unstructured {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return parse(tb, path, string(data))
}

func parse(tb testing.TB, name, text string) []*unstructured.Unstructured {
	tb.Helper()
	var all []*unstructured.Unstructured
	for doc := range strings.SplitSeq("\n"+text, "\n---") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			tb.Fatalf("reading %s: %v", name, err)
		}
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
	return all
}

// NamespaceOf is a namespace of that name.
func NamespaceOf(name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	o.SetName(name)
	return o
}

// Apply writes whole objects as the admin does, in their order.
func (p *Plane) Apply(objects ...*unstructured.Unstructured) {
	p.tb.Helper()
	for _, o := range objects {
		if err := p.Client.Apply(p.tb.Context(), client.ApplyConfigurationFromUnstructured(o.DeepCopy()), owner, client.ForceOwnership); err != nil {
			p.tb.Fatalf("applying %s %s/%s: %v", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
	}
}

// established waits until the API serves every kind.
func (p *Plane) established() {
	p.tb.Helper()
	Until(p.tb, "the CRDs", func(ctx context.Context) error {
		var list unstructured.UnstructuredList
		list.SetAPIVersion("apiextensions.k8s.io/v1")
		list.SetKind("CustomResourceDefinitionList")
		if err := p.Client.List(ctx, &list); err != nil {
			return err
		}
		for _, o := range list.Items {
			if !holds(&o, "Established") {
				return fmt.Errorf("%s is not established", o.GetName())
			}
		}
		return nil
	})
}

// holds says whether a condition in the status of an object is true.
func holds(o *unstructured.Unstructured, condition string) bool {
	all, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	return slices.ContainsFunc(all, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == condition && m["status"] == "True"
	})
}
