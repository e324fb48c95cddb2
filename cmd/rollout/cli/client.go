package cli

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// fieldOwner is the name under which the command's writes appear in managedFields.
const fieldOwner = client.FieldOwner("siskin-cli")

// cluster is a cluster, the namespace that the user means, and what to say when something is amiss.
type cluster struct {
	client.WithWatch
	namespace string
	host      string
}

// connect reads the user's configuration. It does not yet speak with the server.
func (a *app) connect() (*cluster, error) {
	loader := a.flags.ToRawKubeConfigLoader()
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, a.explainConfig(err)
	}
	if err := a.configured(); err != nil {
		return nil, err
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, a.explainConfig(err)
	}
	config.WarningHandler = rest.NewWarningWriter(a.io.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering types: %w", err)
	}
	if err := authenticationv1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering types: %w", err)
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper()})
	if err != nil {
		return nil, fmt.Errorf("building client for %q: %w", config.Host, err)
	}
	return &cluster{WithWatch: c, namespace: namespace, host: config.Host}, nil
}

// configured says why there is no cluster to speak with: the library would try localhost:8080.
func (a *app) configured() error {
	raw, err := a.flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return a.explainConfig(err)
	}
	if _, err := rest.InClusterConfig(); err == nil {
		return nil
	}
	if len(raw.Clusters) == 0 && *a.flags.APIServer == "" {
		return errNoCluster
	}
	return nil
}

// mapper knows the kinds that the command speaks of, which saves the discovery of everything else.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(v1alpha1.GroupVersion.WithKind("Rollout"), meta.RESTScopeNamespace)
	m.Add(v1alpha1.GroupVersion.WithKind("Experiment"), meta.RESTScopeNamespace)
	m.Add(authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"), meta.RESTScopeRoot)
	return m
}

// rollout reads one rollout.
func (c *cluster) rollout(ctx context.Context, name string) (*v1alpha1.Rollout, error) {
	ro := &v1alpha1.Rollout{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, ro); err != nil {
		return nil, c.explain(ctx, err, name)
	}
	return ro, nil
}

// user is who the server takes us for, or "" where it does not tell: a made-up name would be worse than none.
func (c *cluster) user(ctx context.Context) string {
	review := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(ctx, review); err != nil {
		return ""
	}
	return review.Status.UserInfo.Username
}
