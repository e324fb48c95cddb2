package server_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/cmd/local/kube"
	"github.com/siskin-dev/siskin/cmd/local/kube/kubetest"
	"github.com/siskin-dev/siskin/cmd/local/kube/server"
)

// widgetCRD has what Siskin's own kinds need of an API: bounds, a CEL rule with a message, a status subresource.
const widgetCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.siskin.dev}
spec:
  group: test.siskin.dev
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              size: {type: integer, maximum: 100}
              color: {type: string}
              parts:
                type: array
                maxItems: 10
                items: {type: string, maxLength: 10}
            x-kubernetes-validations:
            - {rule: "!has(self.size) || self.size % 2 == 0", message: size must be even}
          status:
            type: object
            properties:
              seen: {type: integer}
`

var widgetKind = schema.GroupVersionKind{Group: "test.siskin.dev", Version: "v1", Kind: "Widget"}

func widget(namespace, name string, spec map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(widgetKind)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

func newClient(t *testing.T, s *kube.API) client.WithWatch {
	t.Helper()
	c, err := client.NewWithWatch(s.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAPI goes through what Siskin relies on, on one server.
func TestAPI(t *testing.T) {
	s := kubetest.Start(t, []byte(widgetCRD))
	c := newClient(t, s)
	t.Run("Apply", func(t *testing.T) { testApply(t, c) })
	t.Run("Status", func(t *testing.T) { testStatus(t, c) })
	t.Run("Validation", func(t *testing.T) { testValidation(t, c) })
	t.Run("OptimisticLock", func(t *testing.T) { testOptimisticLock(t, c) })
	t.Run("Watch", func(t *testing.T) { testWatch(t, c) })
	t.Run("Manager", func(t *testing.T) { testManager(t, s) })
	t.Run("Unauthorized", func(t *testing.T) { testUnauthorized(t, s) })
	t.Run("Protobuf", func(t *testing.T) { testProtobuf(t, s) })
	t.Run("Discovery", func(t *testing.T) { testDiscovery(t, s) })
	t.Run("WrongCRD", func(t *testing.T) { testWrongCRD(t, s) })
}

func applyAs(t *testing.T, c client.Client, owner string, force bool, u *unstructured.Unstructured) error {
	t.Helper()
	opts := []client.ApplyOption{client.FieldOwner(owner)}
	if force {
		opts = append(opts, client.ForceOwnership)
	}
	return c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), opts...)
}

func testApply(t *testing.T, c client.Client) {
	if err := applyAs(t, c, "siskin", false, widget("apply", "w", map[string]any{"size": int64(2)})); err != nil {
		t.Fatal(err)
	}
	if err := applyAs(t, c, "other", false, widget("apply", "w", map[string]any{"color": "red"})); err != nil {
		t.Fatal(err)
	}
	err := applyAs(t, c, "other", false, widget("apply", "w", map[string]any{"size": int64(4)}))
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `"siskin"`) {
		t.Errorf("apply of a field that siskin owns: got %v, want a conflict that names siskin", err)
	}
	if err := applyAs(t, c, "siskin", true, widget("apply", "w", map[string]any{"size": int64(6)})); err != nil {
		t.Fatal(err)
	}
	got := widget("apply", "w", nil)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(got), got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"size": int64(6), "color": "red"}
	if diff := cmp.Diff(want, got.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if n := len(got.GetManagedFields()); n != 2 {
		t.Errorf("managed fields: got %d managers, want 2", n)
	}
	before := got.GetResourceVersion()
	if err := applyAs(t, c, "siskin", true, widget("apply", "w", map[string]any{"size": int64(6)})); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(got), got); err != nil {
		t.Fatal(err)
	}
	if got.GetResourceVersion() != before {
		t.Errorf("applying the same again changed the object: version %s, then %s", before, got.GetResourceVersion())
	}
}

func testStatus(t *testing.T, c client.Client) {
	w := widget("status", "w", map[string]any{"size": int64(2)})
	w.Object["status"] = map[string]any{"seen": int64(7)}
	if err := c.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if _, found := w.Object["status"]; found {
		t.Error("create wrote the status; only the subresource may")
	}
	w.Object["status"] = map[string]any{"seen": int64(1)}
	w.Object["spec"] = map[string]any{"size": int64(8)}
	if err := c.Status().Update(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	got := widget("status", "w", nil)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(got), got); err != nil {
		t.Fatal(err)
	}
	size, _, _ := unstructured.NestedInt64(got.Object, "spec", "size")
	seen, _, _ := unstructured.NestedInt64(got.Object, "status", "seen")
	if size != 2 || seen != 1 || got.GetGeneration() != 1 {
		t.Errorf("after a status update: size %d, seen %d, generation %d; want 2, 1, 1", size, seen, got.GetGeneration())
	}
}

func testValidation(t *testing.T, c client.Client) {
	for name, tc := range map[string]struct {
		reason string
		spec   map[string]any
		want   string
	}{
		"CEL":    {reason: "a rule refuses with its message", spec: map[string]any{"size": int64(3)}, want: "size must be even"},
		"Schema": {reason: "a bound refuses", spec: map[string]any{"size": int64(102)}, want: "less than or equal to 100"},
		"Type":   {reason: "a type refuses", spec: map[string]any{"size": "two"}, want: "must be of type integer"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Create(t.Context(), widget("validation", "w", tc.spec))
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want an invalid error with %q", tc.reason, err, tc.want)
			}
		})
	}
}

func testOptimisticLock(t *testing.T, c client.Client) {
	w := widget("lock", "w", map[string]any{"size": int64(2)})
	if err := c.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	stale := w.DeepCopy()
	w.Object["spec"] = map[string]any{"size": int64(4)}
	if err := c.Update(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(t.Context(), stale); !apierrors.IsConflict(err) {
		t.Errorf("update from a stale read: got %v, want a conflict", err)
	}
}

func testWatch(t *testing.T, c client.WithWatch) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(widgetKind.GroupVersion().WithKind("WidgetList"))
	w, err := c.Watch(t.Context(), list, client.InNamespace("watch"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	obj := widget("watch", "w", map[string]any{"size": int64(2)})
	if err := c.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	for len(got) < 2 {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				t.Fatal("watch ended early")
			}
			got = append(got, string(e.Type))
		case <-ctx.Done():
			t.Fatalf("events: got %v, want ADDED and DELETED", got)
		}
	}
	if diff := cmp.Diff([]string{"ADDED", "DELETED"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func testUnauthorized(t *testing.T, s *kube.API) {
	config := s.Config()
	config.BearerToken = "guess"
	c, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	var status int
	err = c.RESTClient().Get().AbsPath("/apis/test.siskin.dev/v1/widgets").Do(t.Context()).StatusCode(&status).Error()
	if err == nil || status != http.StatusUnauthorized {
		t.Errorf("request with a wrong token: status %d, error %v; want %d", status, err, http.StatusUnauthorized)
	}
}

// testProtobuf: a client that was not told to speak JSON gets an answer that says so.
func testProtobuf(t *testing.T, s *kube.API) {
	c, err := discovery.NewDiscoveryClientForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	res := c.RESTClient().Post().AbsPath("/apis/coordination.k8s.io/v1/namespaces/a/leases").
		SetHeader("Content-Type", "application/vnd.kubernetes.protobuf").Body([]byte("k8s\x00")).Do(t.Context())
	if err := res.Error(); !apierrors.IsUnsupportedMediaType(err) {
		t.Errorf("protobuf body: got %v, want unsupported media type", err)
	}
}

func testWrongCRD(t *testing.T, s *kube.API) {
	for name, tc := range map[string]struct{ reason, doc, want string }{
		"OtherKind": {reason: "only CRDs are installed", doc: "kind: ConfigMap\nmetadata: {name: a}", want: `kind "ConfigMap"`},
		"NotYAML":   {reason: "the parser's error comes through", doc: "a: [", want: "parsing CRD"},
		"NamesTaken": {
			reason: "a CRD that the server will never serve is an error, not a wait",
			doc:    strings.ReplaceAll(widgetCRD, "widgets", "gadgets"), want: "is already in use",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.InstallCRDs(t.Context(), []byte(tc.doc))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want an error with %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s, err := server.Start(t.Context(), server.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.InstallCRDs(t.Context(), []byte(widgetCRD)); err != nil {
		t.Fatal(errors.Join(err, s.Stop()))
	}
	err = newClient(t, s.API).Create(t.Context(), widget("restart", "w", map[string]any{"size": int64(2)}))
	kubeconfig := filepath.Join(dir, "kubeconfig")
	err = errors.Join(err, s.Kubeconfig(kubeconfig, "restart"))
	addr := s.Addr()
	began := time.Now()
	if err := errors.Join(err, s.Stop(), s.Stop()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("stopping took %v; the API server must end before etcd", took)
	}

	s, err = server.Start(t.Context(), server.Options{Dir: dir, Listen: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if err := s.InstallCRDs(t.Context(), []byte(strings.ReplaceAll(widgetCRD, "maximum: 100", "maximum: 50"))); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := widget("restart", "w", nil)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(got), got); err != nil {
		t.Errorf("reading an object of the run before, with its kubeconfig: %v", err)
	}
	if err := c.Create(t.Context(), widget("restart", "big", map[string]any{"size": int64(60)})); !apierrors.IsInvalid(err) {
		t.Errorf("creating beyond the bound of the CRD installed again: got %v, want an invalid error", err)
	}
	if info, err := os.Stat(kubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: mode %v, error %v; want 0600, it holds the token", info.Mode(), err)
	}
}

func TestStartRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		o      server.Options
		want   string
	}{
		"Open":   {reason: "the API must not leave the machine", o: server.Options{Dir: "unused", Listen: "0.0.0.0:0"}, want: "loopback"},
		"NoPort": {reason: "an address has a port", o: server.Options{Dir: "unused", Listen: "127.0.0.1"}, want: "missing port"},
		"NoDir":  {reason: "the caller owns the directory", want: "Dir must be given"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := server.Start(t.Context(), tc.o)
			if err == nil {
				_ = s.Stop()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want an error with %q", tc.reason, err, tc.want)
			}
		})
	}
}
