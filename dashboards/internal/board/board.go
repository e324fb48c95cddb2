// Package board builds the Grafana boards as values, so that ids, positions and data sources come from one place.
package board

import (
	"encoding/json"
	"fmt"
)

// The grid is 24 columns wide.
const gridWidth = 24

type object = map[string]any

// query is one PromQL expression with the name of its series.
type query struct {
	expr, legend string
}

// panel is one panel. Its place follows from the order: panels fill rows from left to right.
type panel struct {
	kind, title, description, unit string
	// width and height are in grid units; width 24 is the whole row.
	width, height int
	queries       []query
	// options and custom are Grafana's settings of this kind of panel; overrides are per series.
	options, custom object
	overrides       []any
	// limits colour values from each number on.
	limits []limit
	// repeat names a variable: one panel for each of its values.
	repeat string
	min    *float64
	max    *float64
}

// limit is a colour that begins at a value; nil is minus infinity.
type limit struct {
	from  any
	color string
}

// render gives the panels their ids and places and returns them in Grafana's form.
func render(panels []panel) []any {
	var out []any
	x, y, row := 0, 0, 0
	for i, p := range panels {
		if x+p.width > gridWidth {
			x, y, row = 0, y+row, 0
		}
		out = append(out, p.render(i+1, x, y))
		x += p.width
		row = max(row, p.height)
	}
	return out
}

func (p panel) render(id, x, y int) object {
	defaults := object{"unit": p.unit, "custom": orEmpty(p.custom), "noValue": "no data"}
	if p.min != nil {
		defaults["min"] = *p.min
	}
	if p.max != nil {
		defaults["max"] = *p.max
	}
	if len(p.limits) > 0 {
		defaults["thresholds"] = object{"mode": "absolute", "steps": steps(p.limits)}
	}
	out := object{
		"id": id, "type": p.kind, "title": p.title, "description": p.description,
		"datasource":  source(),
		"gridPos":     object{"x": x, "y": y, "w": p.width, "h": p.height},
		"fieldConfig": object{"defaults": defaults, "overrides": orNone(p.overrides)},
		"options":     orEmpty(p.options),
		"targets":     targets(p.queries, p.kind == "table"),
	}
	if p.repeat != "" {
		out["repeat"], out["repeatDirection"], out["maxPerRow"] = p.repeat, "h", 3
	}
	return out
}

func steps(limits []limit) []any {
	out := make([]any, len(limits))
	for i, l := range limits {
		out[i] = object{"value": l.from, "color": l.color}
	}
	return out
}

func targets(queries []query, table bool) []any {
	out := make([]any, len(queries))
	for i, q := range queries {
		t := object{
			"refId": string(rune('A' + i)), "datasource": source(), "expr": q.expr, "legendFormat": q.legend,
			"editorMode": "code", "range": !table, "instant": table,
		}
		if table {
			t["format"] = "table"
		}
		out[i] = t
	}
	return out
}

// source is the data source that the user picks at the top of the board.
func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

func orEmpty(o object) object {
	if o == nil {
		return object{}
	}
	return o
}

func orNone(list []any) []any {
	if list == nil {
		return []any{}
	}
	return list
}

// variable is a variable filled from label values.
func variable(name, label, expr, description string) object {
	return object{
		"name": name, "label": label, "description": description, "type": "query", "datasource": source(),
		"query": object{"query": expr, "refId": name}, "definition": expr, "refresh": 2, "sort": 1,
		"includeAll": false, "multi": false,
	}
}

// encode writes a board as committed: indented, keys sorted, with a final newline.
func encode(board object) ([]byte, error) {
	data, err := json.MarshalIndent(board, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding board: %w", err)
	}
	return append(data, '\n'), nil
}
