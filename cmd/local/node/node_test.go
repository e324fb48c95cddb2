package node_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/cmd/local/node"
	"github.com/siskin-dev/siskin/serving"
	"github.com/siskin-dev/siskin/serving/store"
	"github.com/siskin-dev/siskin/serving/trees"
)

// TestVersionComesAndGoes serves a real model for an InferenceService, and takes the endpoint away with it.
func TestVersionComesAndGoes(t *testing.T) {
	server := kubetest.Start(t)
	c, err := client.New(server.Config(), client.Options{Scheme: runtime.NewScheme()})
	if err != nil {
		t.Fatal(err)
	}
	n := node.New(node.Options{
		Open:   func(string) (serving.Source, error) { return store.Open("../data/models/v1", store.S3Options{}) },
		Decode: trees.Decode, Metrics: serving.NewMetrics(nil), Log: slog.New(slog.DiscardHandler), Client: c,
	})
	t.Cleanup(func() { _ = n.Close(context.WithoutCancel(t.Context())) })
	service := object("serving.kserve.io/v1beta1", "InferenceService")
	service.SetLabels(map[string]string{"app": "coolant", "version": "v1"})
	service.Object["spec"] = map[string]any{"predictor": map[string]any{"model": map[string]any{
		"modelFormat": map[string]any{"name": "xgboost"}, "storageUri": "s3://models/coolant/v1/",
	}}}
	if err := c.Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	reconcile := func() {
		t.Helper()
		if _, err := n.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(service)}); err != nil {
			t.Fatal(err)
		}
	}
	reconcile()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(service), service); err != nil {
		t.Fatal(err)
	}
	url, _, _ := unstructured.NestedString(service.Object, "status", "url")
	if code := get(t, url+"/v2/models/coolant/versions/v1/ready"); code != http.StatusOK {
		t.Errorf("the model at %q answered %d, want 200", url, code)
	}
	entry := object("networking.istio.io/v1", "WorkloadEntry")
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(entry), entry); err != nil {
		t.Fatalf("reading the endpoint: %v", err)
	}
	if v, _, _ := unstructured.NestedString(entry.Object, "spec", "labels", "version"); v != "v1" {
		t.Errorf("the endpoint's version is %q, want v1", v)
	}
	if err := c.Delete(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	reconcile()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(entry), entry); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the endpoint is still there after its version went: %v", err)
	}
}

func object(apiVersion, kind string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetNamespace("edge")
	o.SetName("coolant-v1")
	return o
}

func get(t *testing.T, url string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}
