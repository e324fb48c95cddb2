// Package v1alpha1 holds the types of the siskin.dev/v1alpha1 API.
//
// A Rollout says which version of a service is wanted and on what evidence traffic may move to it. Spec is intent
// and is written by people and GitOps tools; status is what the controller observed and decided. The one exception
// is status.requests, to which operators append (see Request): it sits in the status so that the right to operate a
// rollout can be granted apart from the right to change it.
//
// +kubebuilder:object:generate=true
// +groupName=siskin.dev
package v1alpha1
