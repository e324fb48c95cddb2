package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AssignmentSpec says how a unit is recognised. A header wins over a cookie, and over a hash.
//
// +kubebuilder:validation:XValidation:rule="has(self.header) || has(self.cookie) || has(self.hash)",message="assignment must set header, cookie or hash"
// +kubebuilder:validation:XValidation:rule="!has(self.hash) || !has(self.cookie)",message="assignment may not set both cookie and hash"
type AssignmentSpec struct {
	// header holds the unit's bucket, "00" to "99", as the caller computed it from the service's salt and the unit.
	// +optional
	Header *HeaderAssignment `json:"header,omitempty"`
	// cookie holds the unit's bucket, drawn once by the mesh.
	// +optional
	Cookie *CookieAssignment `json:"cookie,omitempty"`
	// hash assigns units by the hash of a header of their own, which Envoy computes: exact and without state, by an
	// EnvoyFilter.
	// +optional
	Hash *HashAssignment `json:"hash,omitempty"`
}

// HashAssignment names the request header whose hash assigns a unit. It needs proxies of Istio 1.28 or newer in the rollout's
// namespace, where the EnvoyFilter holds: callers elsewhere, ambient waypoints and older proxies draw each request. The hash has
// no salt, so send a salted id where the same units should not always be first. A request without the header is drawn.
type HashAssignment struct {
	// header is the name of the header, in lower case.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9-]+$') && !(self in ['cookie', 'x-siskin-variant'])",message="assignment.hash.header must consist of lower-case letters, digits and '-', and not be 'cookie' or 'x-siskin-variant'"
	Header string `json:"header"`
}

// HeaderAssignment names the request header that holds the bucket.
type HeaderAssignment struct {
	// name of the header, in lower case.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9-]+$')",message="assignment.header.name must consist of lower-case letters, digits and '-'"
	// +kubebuilder:validation:XValidation:rule="self != 'x-siskin-variant'",message="assignment.header.name must not be 'x-siskin-variant', which pins a request to a variant"
	// +kubebuilder:default=x-siskin-bucket
	// +optional
	Name string `json:"name,omitempty"`
}

// CookieAssignment names the cookie that holds the bucket.
type CookieAssignment struct {
	// name of the cookie.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_-]+$')",message="assignment.cookie.name must consist of letters, digits, '_' and '-'"
	Name string `json:"name"`
	// maxAge says how long a browser keeps its bucket. It must be at least one second.
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('8760h')",message="assignment.cookie.maxAge must be between 1s and 8760h"
	// +optional
	MaxAge metav1.Duration `json:"maxAge,omitzero"`
}
