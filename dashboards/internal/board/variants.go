package board

// Selectors of the board of variants.
const (
	ofExperiment = `namespace="$namespace",experiment="$experiment"`
	ofVariant    = ofExperiment + `,variant="$variant"`
)

// Variants answers one question: which variant of an experiment is the best, and how sure is that?
func Variants() ([]byte, error) {
	var panels []panel
	panels = append(panels, outcome()...)
	panels = append(panels, arms()...)
	variant := variable("variant", "Variant", `label_values(siskin_experiment_arm_estimate_ratio{`+ofExperiment+`}, variant)`, "Variants to compare with the control.")
	variant["multi"], variant["includeAll"] = true, true
	variant["current"] = object{"text": "All", "value": "$__all"}
	return encode(object{
		"uid":           "siskin-variants",
		"title":         "Siskin: variants",
		"description":   "Which variant of an experiment is the best, and how sure is that?",
		"tags":          []any{"siskin"},
		"schemaVersion": 39,
		"version":       1,
		"editable":      true,
		"graphTooltip":  1,
		"refresh":       "30s",
		"time":          object{"from": "now-24h", "to": "now"},
		"timezone":      "browser",
		"templating": object{"list": []any{
			object{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "description": "The Prometheus that scrapes Siskin."},
			variable("namespace", "Namespace", `label_values(siskin_experiment_info, namespace)`, "Namespace of the experiment."),
			variable("experiment", "Experiment", `label_values(siskin_experiment_info{namespace="$namespace"}, experiment)`, "The experiment."),
			variant,
		}},
		"annotations": object{"list": []any{}},
		"links":       []any{},
		"panels":      render(panels),
	})
}

// outcome is the top row: what is known now, and whether it can be trusted.
func outcome() []panel {
	stat := object{"colorMode": "background", "graphMode": "none", "textMode": "name", "reduceOptions": object{"calcs": []any{"lastNotNull"}}}
	value := object{"colorMode": "value", "graphMode": "none", "textMode": "value_and_name", "reduceOptions": object{"calcs": []any{"lastNotNull"}}}
	return []panel{
		{
			kind: "stat", title: "Verdict", unit: "none", width: 8, height: 6, options: stat,
			description: "What the experiment has shown. Running: not enough yet.",
			queries:     []query{{`max by (verdict) (siskin_experiment_verdict{` + ofExperiment + `}) == 1`, "{{verdict}}"}},
			overrides: []any{
				colored("Winner", "green"), colored("NoDifference", "blue"), colored("Running", "gray"), colored("(Harm|Invalid)", "red"), colored("Inconclusive", "orange"),
			},
		},
		{
			kind: "stat", title: "Buckets", unit: "none", width: 8, height: 6, options: value, min: number(0), max: number(100),
			description: "Buckets of 100 that see each variant. The others see the stable version and are not counted.",
			queries:     []query{{`max by (variant) (siskin_experiment_arm_buckets{` + ofExperiment + `})`, "{{variant}}"}},
		},
		{
			kind: "timeseries", title: "Are the units shared out as intended?", unit: "none", width: 8, height: 6, min: number(0), max: number(1),
			description: "Anytime-valid p-value of the sample ratio. Below 0.001 the assignment is broken and the experiment is Invalid.",
			limits:      []limit{{nil, "red"}, {0.001, "green"}},
			queries:     []query{{`min by (experiment) (siskin_experiment_sample_ratio_pvalue{` + ofExperiment + `})`, "p"}},
		},
	}
}

// arms shows each variant against the control, and what was measured.
func arms() []panel {
	gauge := func(name string) string {
		return `max by (variant) (siskin_experiment_arm_` + name + `{` + ofVariant + `})`
	}
	return []panel{
		{
			kind: "timeseries", title: "$variant: ratio to the control", unit: "none", width: 24, height: 8, repeat: "variant",
			description: "The variant's mean by the control's, with its confidence sequence, valid at every moment. 1 is no difference.",
			queries:     []query{{gauge("estimate_ratio"), "estimate"}, {gauge("low_ratio"), "low"}, {gauge("high_ratio"), "high"}},
			overrides:   []any{dashed("low", "blue"), dashed("high", "blue")},
		},
		{
			kind: "timeseries", title: "Means", unit: "none", width: 12, height: 8,
			description: "Mean of the objective by variant, in the objective's unit.",
			queries:     []query{{`max by (variant) (siskin_experiment_arm_mean{` + ofExperiment + `})`, "{{variant}}"}},
		},
		{
			kind: "timeseries", title: "Units", unit: "short", width: 12, height: 8, min: number(0),
			description: "Units that were newly assigned to each variant.",
			queries:     []query{{`max by (variant) (siskin_experiment_arm_units{` + ofExperiment + `})`, "{{variant}}"}},
		},
	}
}
