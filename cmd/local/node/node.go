// Package node runs model versions on a laptop: what the kubelet, KServe and the endpoint controllers do in a cluster.
//
// For every InferenceService it loads the model, serves it on a port of its own on loopback, registers that port as an
// Istio WorkloadEntry with the object's labels, and reports the object as ready. When the object goes, so do they.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/internal/run"
	"github.com/siskin-dev/siskin/serving"
)

// FaultAnnotation makes a version misbehave, for trying what a rollout does about it: "errors=0.05" fails that share
// of requests with 500, "slow=0.1,400ms" delays that share.
const FaultAnnotation = "siskin.dev/fault"

var (
	inferenceService = schema.GroupVersionKind{Group: "serving.kserve.io", Version: "v1beta1", Kind: "InferenceService"}
	workloadEntry    = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "WorkloadEntry"}
)

// Options configure a Node.
type Options struct {
	// Open returns the source of model artefacts at a storage URI, Decode reads them, Metrics counts what they answer.
	Open    func(uri string) (serving.Source, error)
	Decode  serving.Decoder
	Metrics *serving.Metrics
	Log     *slog.Logger
	Client  client.Client
}

// Node serves the models of the InferenceServices that it is shown.
type Node struct {
	Options
	mu      sync.Mutex // guards running
	running map[types.NamespacedName]*http.Server
}

// New returns a node that serves nothing yet.
func New(o Options) *Node {
	return &Node{Options: o, running: map[types.NamespacedName]*http.Server{}}
}

// SetupWithManager makes the manager show the node every InferenceService.
func (n *Node) SetupWithManager(mgr ctrl.Manager) error {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(inferenceService)
	if err := ctrl.NewControllerManagedBy(mgr).Named("node").For(o).Complete(n); err != nil {
		return fmt.Errorf("setting up the node: %w", err)
	}
	return nil
}

// Reconcile starts or stops the server of one InferenceService.
func (n *Node) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(inferenceService)
	err := n.Client.Get(ctx, req.NamespacedName, o)
	if apierrors.IsNotFound(err) || (err == nil && o.GetDeletionTimestamp() != nil) {
		return ctrl.Result{}, n.stop(ctx, req.NamespacedName)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	n.mu.Lock()
	_, up := n.running[req.NamespacedName]
	n.mu.Unlock()
	if up {
		return ctrl.Result{}, nil
	}
	if err := n.start(ctx, o); err != nil && ctx.Err() == nil {
		n.Log.Error("Could not serve a model", "inferenceService", req.String(), "error", err)
		return ctrl.Result{RequeueAfter: 2 * time.Second}, nil
	}
	return ctrl.Result{}, nil
}

// start loads the model, listens, and only then tells the mesh and the API.
func (n *Node) start(ctx context.Context, o *unstructured.Unstructured) error {
	handler, err := n.handler(ctx, o)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for %q: %w", o.GetName(), err)
	}
	server := run.NewServer(handler)
	key := client.ObjectKeyFromObject(o)
	n.mu.Lock()
	n.running[key] = server
	n.mu.Unlock()
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			n.Log.Error("Model server ended", "inferenceService", key.String(), "error", err)
		}
	}()
	port := listener.Addr().(*net.TCPAddr).Port
	if err := n.register(ctx, o, port); err != nil {
		return err
	}
	return n.report(ctx, o, fmt.Sprintf("http://127.0.0.1:%d", port))
}

// handler serves the one version that the object asks for, under the object's own version label.
func (n *Node) handler(ctx context.Context, o *unstructured.Unstructured) (http.Handler, error) {
	uri, _, _ := unstructured.NestedString(o.Object, "spec", "predictor", "model", "storageUri")
	source, err := n.Open(uri)
	if err != nil {
		return nil, fmt.Errorf("reading the storageUri of %q: %w", o.GetName(), err)
	}
	version := o.GetLabels()["version"]
	if version == "" {
		return nil, fmt.Errorf("reading the labels of %q: version must be set", o.GetName())
	}
	repository := serving.NewRepository(serving.RepositoryOptions{Source: source, Decode: n.Decode, Metrics: n.Metrics})
	if err := repository.Load(ctx, o.GetLabels()["app"], version); err != nil {
		return nil, err
	}
	return withFault(serving.NewHandler(repository, serving.HandlerOptions{}), o.GetAnnotations()[FaultAnnotation])
}

// register writes the WorkloadEntry of a version.
func (n *Node) register(ctx context.Context, o *unstructured.Unstructured, port int) error {
	labels := map[string]any{}
	for k, v := range o.GetLabels() {
		labels[k] = v
	}
	e := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"address": "127.0.0.1", "ports": map[string]any{"http": int64(port)}, "labels": labels,
	}}}
	e.SetGroupVersionKind(workloadEntry)
	e.SetNamespace(o.GetNamespace())
	e.SetName(o.GetName())
	e.SetLabels(o.GetLabels())
	if err := n.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(e), client.FieldOwner("siskin-node"), client.ForceOwnership); err != nil {
		return fmt.Errorf("registering %q: %w", o.GetName(), err)
	}
	return nil
}

func (n *Node) report(ctx context.Context, o *unstructured.Unstructured, url string) error {
	now := time.Now().UTC().Format(time.RFC3339)
	o.Object["status"] = map[string]any{
		"url":        url,
		"conditions": []any{map[string]any{"type": "Ready", "status": "True", "lastTransitionTime": now}},
	}
	if err := n.Client.Status().Update(ctx, o); err != nil {
		return fmt.Errorf("reporting %q as ready: %w", o.GetName(), err)
	}
	return nil
}

// stop takes the endpoint out of the mesh first, then lets the requests that are on their way finish.
func (n *Node) stop(ctx context.Context, key types.NamespacedName) error {
	n.mu.Lock()
	server := n.running[key]
	delete(n.running, key)
	n.mu.Unlock()
	if server == nil {
		return nil
	}
	e := &unstructured.Unstructured{}
	e.SetGroupVersionKind(workloadEntry)
	e.SetNamespace(key.Namespace)
	e.SetName(key.Name)
	if err := n.Client.Delete(ctx, e); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("removing the endpoint of %q: %w", key.Name, err)
	}
	return server.Shutdown(ctx)
}

// Close ends every server: requests that are on their way get a second to finish.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, s := range n.running {
		if err := s.Shutdown(ctx); err != nil {
			_ = s.Close()
		}
	}
	return nil
}
