package mesh

import (
	"errors"
	"fmt"
	"slices"
)

// Copies is what the canary gets of the users' requests; nil for nothing. The traffic must be valid.
func (t Traffic) Copies() *Mirror {
	if t.Mirror == 0 {
		return nil
	}
	canary, _ := t.Canary()
	return &Mirror{Version: canary.Version, Percent: t.Mirror}
}

// Canary is the canary's share, if there is one.
func (t Traffic) Canary() (Share, bool) {
	i := slices.IndexFunc(t.Shares, func(s Share) bool { return s.Variant == Canary })
	if i < 0 {
		return Share{}, false
	}
	return t.Shares[i], true
}

// validateMirror checks that there is a canary to copy to, that all users are stable's, so that copies are compared with
// stable's answers, and that nothing of a copy is seen: the tiers behind would take it for stable's, by VariantHeader.
func (t Traffic) validateMirror() error {
	if t.Mirror == 0 {
		return nil
	}
	errs := []error{between("mirror", t.Mirror, 1, 100)}
	if _, there := t.Canary(); !there {
		errs = append(errs, fmt.Errorf("mirror %d: must have a share of the variant %q to copy to", t.Mirror, Canary))
	}
	if len(t.Shares) > 0 && len(t.Shares[0].Buckets) != Buckets {
		errs = append(errs, fmt.Errorf("mirror %d: may not be specified unless %q owns all buckets", t.Mirror, Stable))
	}
	if p := t.Service.Protocol; p == TCP || p == TLS {
		errs = append(errs, fmt.Errorf("service.protocol %q: may not be specified with mirror, which needs HTTP", p))
	}
	if len(t.Tiers) > 0 {
		errs = append(errs, fmt.Errorf("tiers: may not be specified with mirror: a copy would go on as %q", Stable))
	}
	return errors.Join(errs...)
}
