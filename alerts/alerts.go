// Package alerts holds the Prometheus rules that wake people: few, on symptoms, each with an entry in the runbook.
package alerts

import _ "embed"

// Rules is a Prometheus rule file. The chart loads it verbatim.
//
//go:embed siskin.yaml
var Rules []byte
