// Package charts holds the Helm chart that installs Siskin, and the CRDs that it brings.
package charts

import "embed"

// Siskin is the chart, rooted at "siskin".
//
//go:embed all:siskin
var Siskin embed.FS

// RolloutCRD is the generated definition of the Rollout kind.
//
//go:embed siskin/crds/siskin.dev_rollouts.yaml
var RolloutCRD []byte
