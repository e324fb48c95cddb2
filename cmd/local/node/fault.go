package node

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// withFault wraps a handler so that a share of the requests fails or is late. Without a fault it returns it unchanged.
func withFault(next http.Handler, fault string) (http.Handler, error) {
	if fault == "" {
		return next, nil
	}
	kind, rest, _ := strings.Cut(fault, "=")
	share, delay, _ := strings.Cut(rest, ",")
	p, err := strconv.ParseFloat(share, 64)
	if err != nil || !(p >= 0 && p <= 1) {
		return nil, fmt.Errorf("reading annotation %s %q: share %q must be a number from 0 to 1", FaultAnnotation, fault, share)
	}
	switch kind {
	case "errors":
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if rand.Float64() < p {
				http.Error(w, `{"error":"injected fault"}`, http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, r)
		}), nil
	case "slow":
		d, err := time.ParseDuration(delay)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("reading annotation %s %q: delay %q must be a duration above zero", FaultAnnotation, fault, delay)
		}
		return late(next, p, d), nil
	}
	return nil, fmt.Errorf("reading annotation %s %q: must begin with errors= or slow=", FaultAnnotation, fault)
}

func late(next http.Handler, p float64, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rand.Float64() < p {
			select {
			case <-time.After(d):
			case <-r.Context().Done():
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
