// Package charts holds the Helm chart that installs Siskin, and the CRDs that it brings.
package charts

import "embed"

// Siskin is the chart, rooted at "siskin".
//
//go:embed all:siskin
var Siskin embed.FS

// RolloutCRD is the generated definition of the Rollout kind. It is not in the chart's crds folder: Helm installs what
// lies there whatever the values say, and never upgrades it.
//
//go:embed siskin/files/crds/siskin.dev_rollouts.yaml
var RolloutCRD []byte

// ExperimentCRD is the generated definition of the Experiment kind, kept like RolloutCRD.
//
//go:embed siskin/files/crds/siskin.dev_experiments.yaml
var ExperimentCRD []byte
