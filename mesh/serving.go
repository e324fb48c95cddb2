package mesh

import "encoding/json"

// Serving says how versions run, for a data plane that runs them itself.
type Serving struct {
	// Predictor is a JSON object in the words of the data plane; PlaceOfVersion in its strings stands for the version.
	Predictor json.RawMessage
	// Revisions keeps versions as revisions of one predictor, instead of predictors side by side.
	Revisions bool
	// Tried is the version that was on trial last and was not promoted; empty when there is none.
	Tried string
}

// PlaceOfVersion stands for the version in the strings of a predictor.
const PlaceOfVersion = "$(version)"
