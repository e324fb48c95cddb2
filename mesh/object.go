package mesh

import "slices"

// Labels of every object that Siskin writes.
const (
	// RolloutLabel holds the name of the rollout.
	RolloutLabel = "siskin.dev/rollout"
	// ManagedByLabel holds ManagedBy.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedBy is the value of ManagedByLabel.
	ManagedBy = "siskin"
)

// DefaultsAnnotation says of an object that whoever serves it fills in fields inside its spec, so that only what Siskin says
// is compared.
const DefaultsAnnotation = "siskin.dev/defaults"

// Object is a Kubernetes object as JSON has it: maps, slices, strings, booleans and int64. It holds what Siskin says and
// nothing else, ready for server-side apply.
type Object = map[string]any

// Object begins an object of the traffic, in the service's namespace and with Siskin's labels.
func (t Traffic) Object(apiVersion, kind, name string, spec map[string]any) Object {
	return Object{
		"apiVersion": apiVersion,
		"kind":       kind,
		"metadata": map[string]any{
			"name": name, "namespace": t.Service.Namespace,
			"labels": map[string]any{RolloutLabel: t.Rollout, ManagedByLabel: ManagedBy},
		},
		"spec": spec,
	}
}

// Versions lists the versions of the shares and the extra ones that are not empty, sorted and each once.
func (t Traffic) Versions(extra ...string) []string {
	all := slices.Clone(extra)
	for _, s := range t.Shares {
		all = append(all, s.Version)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(v string) bool { return v == "" })
}
