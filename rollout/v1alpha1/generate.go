package v1alpha1

//go:generate go tool -modfile=../../test/tools/go.mod controller-gen object crd:crdVersions=v1,maxDescLen=400 paths=. output:crd:dir=../../charts/siskin/files/crds output:object:dir=.
