package board

import "fmt"

// Selectors that the board's variables fill in.
const (
	ofRollout = `namespace="$namespace",rollout="$rollout"`
	ofGate    = ofRollout + `,gate="$gate"`
	ofService = `reporter="$reporter",destination_service_namespace="$namespace",destination_service_name="$service"`
	ofModel   = `model="$model"`
)

// Experiment answers one question: is the canary safe, and why did the rollout do what it did?
func Experiment() ([]byte, error) {
	var panels []panel
	panels = append(panels, answer()...)
	panels = append(panels, course()...)
	panels = append(panels, evidence()...)
	panels = append(panels, traffic()...)
	panels = append(panels, model()...)
	return encode(object{
		"uid":           "siskin-experiment",
		"title":         "Siskin: experiment",
		"description":   "Is the canary safe, and why did the rollout do what it did?",
		"tags":          []any{"siskin"},
		"schemaVersion": 39,
		"version":       1,
		"editable":      true,
		"graphTooltip":  1,
		"refresh":       "10s",
		"time":          object{"from": "now-1h", "to": "now"},
		"timezone":      "browser",
		"templating":    object{"list": variables()},
		"annotations":   object{"list": []any{weightChanges()}},
		"links":         []any{},
		"panels":        render(panels),
	})
}

func variables() []any {
	gate := variable("gate", "Gate", `label_values(siskin_rollout_gate_limit_ratio{`+ofRollout+`}, gate)`, "Gates to show the evidence of.")
	gate["multi"], gate["includeAll"] = true, true
	gate["current"] = object{"text": "All", "value": "$__all"}
	return []any{
		object{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "description": "The Prometheus that scrapes Siskin and the mesh."},
		variable("namespace", "Namespace", `label_values(siskin_rollout_info, namespace)`, "Namespace of the rollout."),
		variable("rollout", "Rollout", `label_values(siskin_rollout_info{namespace="$namespace"}, rollout)`, "The rollout."),
		variable("service", "Service", `label_values(istio_requests_total{destination_service_namespace="$namespace"}, destination_service_name)`, "spec.service.name of the rollout."),
		variable("model", "Model", `label_values(siskin_inferences_total, model)`, "The model that the service runs."),
		gate,
		object{
			"name": "reporter", "label": "Reporter", "type": "custom", "query": "source,destination,waypoint",
			"current": object{"text": "source", "value": "source"}, "description": "Whose view of a request counts; source also sees those that never arrive.",
		},
	}
}

// weightChanges marks every change of weight on all panels.
func weightChanges() object {
	return object{
		"name": "Weight changes", "datasource": source(), "enable": true, "iconColor": "blue",
		"expr": `changes(siskin_rollout_weight{` + ofRollout + `}[1m]) > 0`, "step": "15s", "titleFormat": "weight changed",
	}
}

// answer is the top row: what the gates say now, and what came of it.
func answer() []panel {
	stat := object{"colorMode": "background", "graphMode": "none", "textMode": "name", "reduceOptions": object{"calcs": []any{"lastNotNull"}}}
	value := object{"colorMode": "value", "graphMode": "none", "textMode": "value_and_name", "reduceOptions": object{"calcs": []any{"lastNotNull"}}}
	return []panel{
		{
			kind: "stat", title: "Is the canary safe?", unit: "none", width: 10, height: 6, options: stat,
			description: "The verdict of each gate at the last look. Pass: below its margin, by evidence. Harm: beyond it. Wait: not decided yet. NoData and Invalid hold the weight. A gate that a shadow or a cohort tells nothing is not shown before the first step.",
			queries:     []query{{`max by (gate, verdict) (siskin_rollout_gate_verdict{` + ofRollout + `}) == 1`, "{{gate}}: {{verdict}}"}},
			overrides: []any{
				colored(".*: Pass", "green"), colored(".*: Harm", "red"), colored(".*: Wait", "blue"), colored(".*: (NoData|Invalid)", "orange"),
			},
		},
		{
			kind: "stat", title: "Weight", unit: "percent", width: 4, height: 6, options: value, min: number(0), max: number(100),
			description: "Buckets of 100 that see the canary now.",
			queries:     []query{{`max by (rollout) (siskin_rollout_weight{` + ofRollout + `})`, "{{rollout}}"}},
		},
		{
			kind: "stat", title: "Versions", unit: "none", width: 5, height: 6, options: stat,
			description: "The stable version and, during a run, the canary.",
			queries:     []query{{`max by (stable, canary) (siskin_rollout_info{` + ofRollout + `})`, "{{stable}} stable, canary: {{canary}}"}},
		},
		{
			kind: "stat", title: "Paused", unit: "none", width: 5, height: 6, options: stat,
			description: "Why the run waits for somebody. Empty while it does not.",
			queries:     []query{{`max by (reason) (siskin_rollout_paused{` + ofRollout + `}) == 1`, "{{reason}}"}},
			overrides:   []any{colored(".*", "orange")},
		},
	}
}

// course is what the rollout did, over time.
func course() []panel {
	return []panel{
		{
			kind: "timeseries", title: "Weight over time", unit: "percent", width: 12, height: 8, min: number(0), max: number(100),
			description: "Buckets of 100 that see the canary, the share of requests that met it, and the share that a shadow copies to it. A ramp only rises; a rollback is one step to 0.",
			custom:      object{"lineInterpolation": "stepAfter", "fillOpacity": 20},
			queries: []query{
				{`max by (rollout) (siskin_rollout_weight{` + ofRollout + `})`, "weight"},
				{`100 * max by (rollout) (siskin_rollout_realised_share_ratio{` + ofRollout + `})`, "met"},
				{`100 * max by (rollout) (siskin_rollout_mirror_ratio{` + ofRollout + `})`, "copies"},
			},
		},
		{
			kind: "timeseries", title: "Decisions", unit: "short", width: 12, height: 8, min: number(0),
			description: "Decisions that changed something, counted since the controller began, by decision and reason. The reason is the same word as in the status and the events.",
			custom:      object{"lineInterpolation": "stepAfter"},
			queries:     []query{{`sum by (decision, reason) (siskin_rollout_decisions_total{` + ofRollout + `})`, "{{decision}}: {{reason}}"}},
		},
	}
}

// evidence is why: one pair of panels for each gate.
func evidence() []panel {
	gauge := func(name string) string {
		return fmt.Sprintf(`max by (gate) (siskin_rollout_gate_%s{%s})`, name, ofGate)
	}
	share := func(side string) string { return gauge(side+"_log_evidence") + " / " + gauge(side+"_log_bound") }
	return []panel{
		{
			kind: "timeseries", title: "$gate: canary to stable", unit: "none", width: 24, height: 8, repeat: "gate",
			description: "The estimated ratio of canary to stable with its confidence sequence, valid at every moment. The gate passes when the evidence puts it below the limit; 1 is no difference.",
			queries: []query{
				{gauge("estimate_ratio"), "estimate"}, {gauge("low_ratio"), "low"}, {gauge("high_ratio"), "high"}, {gauge("limit_ratio"), "limit"},
			},
			overrides: []any{dashed("limit", "red"), dashed("low", "blue"), dashed("high", "blue")},
		},
		{
			kind: "timeseries", title: "$gate: evidence against its bounds", unit: "percentunit", width: 24, height: 8, repeat: "gate", min: number(0),
			description: "Each side's log e-value as a share of the log bound at which it decides. At 100 % harm rolls back, and safety passes the step. Harm adds up over the run, safety begins anew at each step.",
			custom:      object{"thresholdsStyle": object{"mode": "line"}},
			limits:      []limit{{nil, "transparent"}, {1, "red"}},
			queries:     []query{{share("harm"), "harm"}, {share("safety"), "safety"}},
			overrides:   []any{colored("harm", "red"), colored("safety", "green")},
		},
		{
			kind: "timeseries", title: "How much longer?", unit: "s", width: 24, height: 6, min: number(0),
			description: "How much longer each gate is likely to need at the present traffic, if the versions do not differ. No line while nobody can say.",
			queries:     []query{{`max by (gate) (siskin_rollout_gate_remaining_seconds{` + ofRollout + `})`, "{{gate}}"}},
		},
	}
}

// traffic is what the mesh saw of each version.
func traffic() []panel {
	total := `sum by (destination_version) (rate(istio_requests_total{` + ofService + `}[$__rate_interval]))`
	errs := `sum by (destination_version) (rate(istio_requests_total{` + ofService + `,response_code=~"5..|0"}[$__rate_interval]))`
	latency := func(q string) string {
		return `histogram_quantile(` + q + `, sum by (destination_version, le) (rate(istio_request_duration_milliseconds_bucket{` + ofService + `}[$__rate_interval])))`
	}
	return []panel{
		{
			kind: "timeseries", title: "Share of requests", unit: "percentunit", width: 8, height: 8, min: number(0), max: number(1),
			description: "Share of the service's requests by version. It follows the weight as far as buckets are equally busy.",
			custom:      object{"fillOpacity": 20, "stacking": object{"mode": "normal"}},
			queries:     []query{{total + ` / ignoring (destination_version) group_left () sum(rate(istio_requests_total{` + ofService + `}[$__rate_interval]))`, "{{destination_version}}"}},
		},
		{
			kind: "timeseries", title: "Errors", unit: "percentunit", width: 8, height: 8, min: number(0),
			description: "Share of requests answered with 5xx or not at all, by version.",
			queries:     []query{{errs + ` / ` + total, "{{destination_version}}"}},
		},
		{
			kind: "timeseries", title: "Latency", unit: "ms", width: 8, height: 8, min: number(0),
			description: "Median and 99th percentile by version, interpolated within the bounds of Istio's histogram.",
			queries:     []query{{latency("0.5"), "{{destination_version}} p50"}, {latency("0.99"), "{{destination_version}} p99"}},
		},
	}
}

// model is what only a model server and its telemetry can tell.
func model() []panel {
	perVersion := func(metric, more string) string {
		return `sum by (version) (rate(` + metric + `{` + ofModel + more + `}[$__rate_interval]))`
	}
	return []panel{
		{
			kind: "timeseries", title: "Prediction error", unit: "none", width: 8, height: 8, min: number(0),
			description: "Mean absolute error by version, in the unit of what the model predicts. The truth arrives in the same record as the input.",
			queries:     []query{{perVersion("siskin_prediction_absolute_error_total", "") + ` / ` + perVersion("siskin_predictions_total", ""), "{{version}}"}},
		},
		{
			kind: "timeseries", title: "Energy per inference", unit: "joule", width: 8, height: 8, min: number(0),
			description: "Joules per inference by version: the energy beyond the idle node. By source: rapl is measured, model is computed from CPU time.",
			queries: []query{{
				`sum by (version, source) (rate(siskin_inference_joules_total{` + ofModel + `,scope="dynamic"}[$__rate_interval])) / on (version) group_left () ` + perVersion("siskin_inferences_total", ""),
				"{{version}} ({{source}})",
			}},
		},
		{
			kind: "timeseries", title: "Inferences", unit: "reqps", width: 8, height: 8, min: number(0),
			description: "Rows predicted per second, by version.",
			queries:     []query{{perVersion("siskin_inferences_total", ""), "{{version}}"}},
		},
	}
}

func number(v float64) *float64 { return new(v) }

// colored gives the series whose names match a colour.
func colored(pattern, color string) object {
	return override(pattern, object{"id": "color", "value": object{"mode": "fixed", "fixedColor": color}})
}

// dashed gives them a dashed line as well.
func dashed(name, color string) object {
	return override(name,
		object{"id": "color", "value": object{"mode": "fixed", "fixedColor": color}},
		object{"id": "custom.lineStyle", "value": object{"fill": "dash", "dash": []any{8, 8}}})
}

func override(pattern string, properties ...any) object {
	return object{"matcher": object{"id": "byRegexp", "options": "/^" + pattern + "$/"}, "properties": properties}
}
