// Package serving answers predictions over the Open Inference Protocol v2 from models that can be swapped while it runs.
//
// A Repository fetches artefacts from a Source, decodes, verifies and warms them, and only then puts them in the place of
// the version before: a bad model never replaces a good one. NewHandler serves a repository over HTTP. A client's fault
// is never answered with a 5xx, and every error body is {"error": "..."}.
//
//	repo := serving.NewRepository(serving.RepositoryOptions{Source: source, Decode: trees.Decode})
//	if err := repo.Load(ctx, "coolant", "v1"); err != nil {
//		return err
//	}
//	http.ListenAndServe(":8080", serving.NewHandler(repo, serving.HandlerOptions{}))
//
// What it does not do yet: gRPC, the binary tensor extension, and models of several inputs or outputs.
package serving

import "maps"

// Datatypes of the protocol that this package reads and writes.
const (
	FP32 = "FP32"
	FP64 = "FP64"
)

// Model predicts one number per row. Implementations are safe for concurrent use and do not change.
type Model interface {
	// Spec describes the model.
	Spec() Spec
	// Predict writes the prediction of each of len(out) rows. rows holds them one after the other, each of
	// len(Spec().Features) values; NaN is a missing value. Values of an FP32 tensor are already rounded to float32.
	Predict(rows, out []float64) error
}

// Spec describes a model to its callers.
type Spec struct {
	// Platform names the format, for example "xgboost_ubj".
	Platform string
	// Features names the columns of a row, in order.
	Features []string
	// Output is the datatype of a prediction, FP32 or FP64.
	Output string
	// Parameters are further facts, such as the target's unit. Values are strings, numbers or booleans.
	Parameters map[string]any
}

// Names of the one input and the one output that every model here has.
const (
	inputName  = "input0"
	outputName = "predict"
)

// tensor describes an input or output in a model's metadata; -1 is a variable dimension.
type tensor struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

// metadata is the answer to GET /v2/models/{model}.
type metadata struct {
	Name       string         `json:"name"`
	Versions   []string       `json:"versions"`
	Platform   string         `json:"platform"`
	Inputs     []tensor       `json:"inputs"`
	Outputs    []tensor       `json:"outputs"`
	Parameters map[string]any `json:"parameters"`
}

func describe(name string, versions []string, s Spec) metadata {
	parameters := map[string]any{"feature_names": s.Features}
	maps.Copy(parameters, s.Parameters)
	return metadata{
		Name:       name,
		Versions:   versions,
		Platform:   s.Platform,
		Inputs:     []tensor{{inputName, FP32, []int64{-1, int64(len(s.Features))}}},
		Outputs:    []tensor{{outputName, s.Output, []int64{-1}}},
		Parameters: parameters,
	}
}
