package kube

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	sigsyaml "sigs.k8s.io/yaml"
)

//go:embed crds/*.yaml
var embedded embed.FS

// CRDs returns the definitions of the kinds that Siskin writes or reads and does not own: Istio's traffic kinds,
// PrometheusRule, KServe's InferenceService, and stand-ins for Event and Lease. See crds/README.md for where each comes
// from.
func CRDs() ([][]byte, error) {
	names, err := fs.Glob(embedded, "crds/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing embedded CRDs: %w", err)
	}
	docs := make([][]byte, 0, len(names))
	for _, name := range names {
		doc, err := embedded.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading embedded CRDs: %w", err)
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// InstallCRDs creates the definitions in the YAML documents given, or updates them, and returns when every served
// version of each answers requests. An argument may hold several documents.
func (a *API) InstallCRDs(ctx context.Context, docs ...[]byte) error {
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, doc := range docs {
		parsed, err := parseCRDs(doc)
		if err != nil {
			return err
		}
		crds = append(crds, parsed...)
	}
	client, err := clientset.NewForConfig(a.config)
	if err != nil {
		return fmt.Errorf("building client: %w", err)
	}
	for _, crd := range crds {
		if err := applyCRD(ctx, client, crd); err != nil {
			return fmt.Errorf("installing CRD %q: %w", crd.Name, err)
		}
	}
	d, err := discovery.NewDiscoveryClientForConfig(a.config)
	if err != nil {
		return fmt.Errorf("building client: %w", err)
	}
	for _, crd := range crds {
		if err := waitServed(ctx, client, d.RESTClient(), crd); err != nil {
			return fmt.Errorf("waiting for CRD %q: %w", crd.Name, err)
		}
	}
	return nil
}

// parseCRDs reads the YAML documents of data. Any kind but CustomResourceDefinition is refused.
func parseCRDs(data []byte) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	var crds []*apiextensionsv1.CustomResourceDefinition
	for r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return crds, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading CRDs: %w", err)
		}
		if onlyComments(doc) {
			continue
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := sigsyaml.Unmarshal(doc, crd); err != nil {
			return nil, fmt.Errorf("parsing CRD: %w", err)
		}
		if crd.Kind != "CustomResourceDefinition" || crd.Name == "" {
			return nil, fmt.Errorf("parsing CRD: want a named CustomResourceDefinition, got kind %q, name %q", crd.Kind, crd.Name)
		}
		crds = append(crds, crd)
	}
}

func onlyComments(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

func applyCRD(ctx context.Context, client clientset.Interface, crd *apiextensionsv1.CustomResourceDefinition) error {
	api := client.ApiextensionsV1().CustomResourceDefinitions()
	_, err := api.Create(ctx, crd, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	old, err := api.Get(ctx, crd.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	next := crd.DeepCopy()
	next.ResourceVersion = old.ResourceVersion
	_, err = api.Update(ctx, next, metav1.UpdateOptions{})
	return err
}

// waitServed polls until the CRD is established and its objects can be listed in every served version: the handler
// learns of a new CRD a moment after the condition is set.
func waitServed(ctx context.Context, client clientset.Interface, c rest.Interface, crd *apiextensionsv1.CustomResourceDefinition) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		got, err := client.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, crd.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if last = refused(got); last != nil {
			return false, last
		}
		if !established(got) {
			return false, nil
		}
		for _, v := range crd.Spec.Versions {
			path := "/apis/" + crd.Spec.Group + "/" + v.Name + "/" + crd.Spec.Names.Plural
			if !v.Served {
				continue
			}
			if last = c.Get().AbsPath(path).Param("limit", "1").Do(ctx).Error(); last != nil {
				return false, nil //nolint:nilerr // asked again at the next turn; last says why when time runs out
			}
		}
		return true, nil
	})
	if err != nil && last != nil && !errors.Is(err, last) {
		return fmt.Errorf("%w: %w", err, last)
	}
	return err
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
			return true
		}
	}
	return false
}

// refused returns why the server will never serve a CRD, as far as its conditions say.
func refused(crd *apiextensionsv1.CustomResourceDefinition) error {
	for _, c := range crd.Status.Conditions {
		conflict := c.Type == apiextensionsv1.NamesAccepted && c.Status == apiextensionsv1.ConditionFalse
		if conflict || c.Type == apiextensionsv1.NonStructuralSchema && c.Status == apiextensionsv1.ConditionTrue {
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
	}
	return nil
}
