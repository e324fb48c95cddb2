// Package dashboards holds the Grafana boards, one question each.
//
// The JSON is generated: see internal/board.
package dashboards

import "embed"

//go:generate go test ./internal/board -run TestCommitted -update

// Boards are the boards as Grafana loads them, one file each.
//
//go:embed *.json
var Boards embed.FS
