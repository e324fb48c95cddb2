package istio

import "github.com/siskin-dev/siskin/mesh"

// SubsetName is the name of a version's subset: the version itself where that is a DNS label, else its readable part
// and a short hash of it. Different versions have different names.
func SubsetName(version string) string { return mesh.DNSLabel(version) }
