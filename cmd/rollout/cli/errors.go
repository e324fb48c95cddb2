package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

var (
	errNoCluster = errors.New("no cluster is configured: set --kubeconfig or KUBECONFIG, or keep a configuration in ~/.kube/config")
	errNoKind    = errors.New("the cluster does not know Rollouts (siskin.dev/v1alpha1): install Siskin's chart, which brings the definition")
)

// explainConfig adds to an error of the kubeconfig what the user could have meant.
func (a *app) explainConfig(err error) error {
	raw, rawErr := a.flags.ToRawKubeConfigLoader().RawConfig()
	if rawErr != nil {
		return fmt.Errorf("reading kubeconfig: %w", err)
	}
	wanted := *a.flags.Context
	if _, known := raw.Contexts[wanted]; wanted == "" || known {
		return fmt.Errorf("reading kubeconfig: %w", err)
	}
	var names []string
	for name := range raw.Contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	return fmt.Errorf("no context %q in the kubeconfig: it has %s", wanted, list(names))
}

// explain turns an error of the API into a sentence that says what to do. name is the rollout that was asked for, if any.
func (c *cluster) explain(ctx context.Context, err error, name string) error {
	var status apierrors.APIStatus
	var network net.Error
	switch {
	case err == nil:
		return nil
	case unknownKind(err):
		return errNoKind
	case apierrors.IsNotFound(err) && name != "":
		return c.notFound(ctx, name)
	case apierrors.IsForbidden(err) && errors.As(err, &status):
		return fmt.Errorf("%s: ask for a role that allows it (the chart has siskin-viewer to look, siskin-operator to operate and siskin-editor to change)", status.Status().Message)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s does not accept these credentials: %w", c.host, err)
	case errors.As(err, &network) && ctx.Err() == nil:
		return fmt.Errorf("no answer from the cluster at %s: %w; is it running, and is this the right context?", c.host, cause(err))
	}
	return err
}

// unknownKind says whether the server has no such kind at all: it then answers with a plain page, not with a status that
// names an object.
func unknownKind(err error) bool {
	_, plain := apierrors.StatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
	return meta.IsNoMatchError(err) || apierrors.IsNotFound(err) && plain
}

// cause drops the URL that the HTTP client puts in front of every error.
func cause(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err
	}
	return err
}

// notFound says where the rollout may be instead. What cannot be listed is left out.
func (c *cluster) notFound(ctx context.Context, name string) error {
	var all v1alpha1.RolloutList
	if err := c.List(ctx, &all); err != nil {
		_ = c.List(ctx, &all, client.InNamespace(c.namespace)) // a suggestion is not worth an error of its own
	}
	var here, elsewhere []string
	for _, ro := range all.Items {
		switch {
		case ro.Namespace == c.namespace:
			here = append(here, ro.Name)
		case ro.Name == name:
			elsewhere = append(elsewhere, ro.Namespace)
		}
	}
	text := fmt.Sprintf("no rollout %q in namespace %q", name, c.namespace)
	near := nearest(name, here)
	switch {
	case near != "":
		return fmt.Errorf("%s: did you mean %q?", text, near)
	case len(elsewhere) > 0:
		return fmt.Errorf("%s: there is one in %s (use -n)", text, list(elsewhere))
	case len(here) > 0:
		return fmt.Errorf("%s: it has %s", text, list(here))
	}
	return fmt.Errorf("%s, which has none", text)
}

// list names at most five things.
func list(names []string) string {
	const most = 5
	if len(names) == 0 {
		return "none"
	}
	quoted := make([]string, 0, most)
	for _, n := range names[:min(len(names), most)] {
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	text := strings.Join(quoted, ", ")
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return text
}

// nearest is the name that takes the fewest edits to reach, if they are at most a third of its letters.
func nearest(name string, names []string) string {
	best, least := "", len(name)/3+1
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements that turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			edits := diagonal
			if a[i] != b[j] {
				edits++
			}
			diagonal = row[j+1]
			row[j+1] = min(edits, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
