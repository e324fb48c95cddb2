package mesh

import (
	"errors"
	"fmt"
	"slices"
)

// previewed sends the requests for the preview hosts to the canary; there is no such route without one, and then these hosts
// are like any other.
func previewed(t Traffic) []Route {
	canary, there := t.Canary()
	if len(t.PreviewHosts) == 0 || !there {
		return nil
	}
	r := Route{Name: "canary-hosts", Destinations: []Destination{destination(canary, Buckets)}}
	for _, host := range t.PreviewHosts {
		r.Matches = append(r.Matches, Match{Host: host})
	}
	return []Route{r}
}

func (t Traffic) validatePreviewHosts() error {
	if len(t.PreviewHosts) == 0 {
		return nil
	}
	var errs []error
	taken := append([]string{t.Service.FQDN()}, t.Service.Hosts...)
	for i, host := range t.PreviewHosts {
		field := fmt.Sprintf("previewHosts[%d]", i)
		errs = append(errs, plainHostForm.check(field, host))
		if slices.Contains(taken, host) {
			errs = append(errs, fmt.Errorf("%s %q: must be given once, and not be a host of the service", field, host))
		}
		taken = append(taken, host)
	}
	if len(t.Service.Gateways) == 0 {
		errs = append(errs, fmt.Errorf("previewHosts %q: may not be specified without service.gateways", t.PreviewHosts))
	}
	if p := t.Service.Protocol; p == TCP || p == TLS {
		errs = append(errs, fmt.Errorf("service.protocol %q: may not be specified with previewHosts, which need HTTP", p))
	}
	return errors.Join(errs...)
}
