package mesh

import "slices"

// Tier is a service behind the first one, in its namespace, whose versions have the same names. Its pods carry the label
// app with the tier's name, and the version label.
type Tier struct {
	Name string
	Port int
}

// Host is the tier's host in the mesh.
func (t Traffic) Host(tier Tier) string {
	return Service{Namespace: t.Service.Namespace, Name: tier.Name}.FQDN()
}

// TierRoutes are the routes of the i-th tier: the request goes on to the version that it met before, the first match wins.
//
//	follow-<variant>   VariantHeader, which the first service's route has set, names the variant
//	from-<version>     the caller is a pod of that version of the service or of a tier before: for callers that do not pass
//	                   the header on, where sidecars run
//	rest               everybody else meets stable
//
// Every route has one destination, so that no retry changes the version. Leaving are further versions whose pods may still
// call: a caller of one stays within it, and no variant is written on its request.
func TierRoutes(t Traffic, i int, leaving ...string) []Route {
	var all []Route
	for _, s := range append(slices.Clone(t.Shares[1:]), t.Shares[0]) {
		all = append(all, Route{
			Name:         "follow-" + string(s.Variant),
			Matches:      []Match{{Headers: map[string]StringMatch{VariantHeader: {Exact: string(s.Variant)}}}},
			Destinations: []Destination{destination(s, Buckets)},
		})
	}
	for _, version := range t.Versions(leaving...) {
		r := Route{Name: "from-" + version, Destinations: []Destination{t.showing(version)}}
		for _, app := range t.callers(i) {
			r.Matches = append(r.Matches, Match{Source: map[string]string{"app": app, t.VersionLabel: version}})
		}
		all = append(all, r)
	}
	return append(all, Route{Name: "rest", Destinations: []Destination{destination(t.Shares[0], Buckets)}})
}

// callers are the names of the services before the i-th tier.
func (t Traffic) callers(i int) []string {
	names := []string{t.Service.Name}
	for _, tier := range t.Tiers[:i] {
		names = append(names, tier.Name)
	}
	return names
}

// showing is the destination of a version: the first variant that has it, or none when it is leaving.
func (t Traffic) showing(version string) Destination {
	for _, s := range t.Shares {
		if s.Version == version {
			return destination(s, Buckets)
		}
	}
	return Destination{Version: version, Weight: Buckets}
}
