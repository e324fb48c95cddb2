package node

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaults(t *testing.T) {
	fine := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	for name, tc := range map[string]struct {
		fault string
		code  int
		took  time.Duration
	}{
		"none":         {"", 200, 0},
		"always fails": {"errors=1", 500, 0},
		"never fails":  {"errors=0", 200, 0},
		"always late":  {"slow=1,400ms", 200, 400 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, err := withFault(fine, tc.fault)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
				if w.Code != tc.code || time.Since(began) != tc.took {
					t.Errorf("answered %d after %s, want %d after %s", w.Code, time.Since(began), tc.code, tc.took)
				}
			})
		})
	}
}

func TestBadFaultsAreNamed(t *testing.T) {
	for _, fault := range []string{"errors", "errors=x", "errors=1.5", "errors=NaN", "slow=0.1", "slow=0.1,-1s", "sad=1"} {
		if _, err := withFault(http.NotFoundHandler(), fault); err == nil || !strings.Contains(err.Error(), FaultAnnotation) {
			t.Errorf("withFault(%q) = %v, want an error that names the annotation", fault, err)
		}
	}
}
