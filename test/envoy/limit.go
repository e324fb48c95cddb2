package envoy

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
)

// Descriptors are what a proxy asks the rate limit service about for a request that is routed to the cluster. A limit of which
// one action does not hold asks nothing. An action that is not known is refused.
func Descriptors(limits []*routev3.RateLimit, cluster string, q Request) ([]*ratelimitv3.RateLimitDescriptor, error) {
	var all []*ratelimitv3.RateLimitDescriptor
	for i, limit := range limits {
		if err := only(limit, "actions"); err != nil {
			return nil, fmt.Errorf("reading limit %d: %w", i, err)
		}
		d := &ratelimitv3.RateLimitDescriptor{}
		holds := true
		for j, a := range limit.GetActions() {
			entry, err := act(a, cluster, q)
			if err != nil {
				return nil, fmt.Errorf("reading action %d of limit %d: %w", j, i, err)
			}
			d.Entries = append(d.Entries, entry)
			holds = holds && entry != nil
		}
		if holds {
			all = append(all, d)
		}
	}
	return all, nil
}

// act is the entry of an action; nil when it does not hold.
func act(a *routev3.RateLimit_Action, cluster string, q Request) (*ratelimitv3.RateLimitDescriptor_Entry, error) {
	switch to := a.GetActionSpecifier().(type) {
	case *routev3.RateLimit_Action_GenericKey_:
		if err := only(to.GenericKey, "descriptor_key", "descriptor_value"); err != nil {
			return nil, err
		}
		return &ratelimitv3.RateLimitDescriptor_Entry{Key: to.GenericKey.GetDescriptorKey(), Value: to.GenericKey.GetDescriptorValue()}, nil
	case *routev3.RateLimit_Action_DestinationCluster_:
		return &ratelimitv3.RateLimitDescriptor_Entry{Key: "destination_cluster", Value: cluster}, nil
	case *routev3.RateLimit_Action_HeaderValueMatch_:
		m := to.HeaderValueMatch
		if err := only(m, "descriptor_key", "descriptor_value", "expect_match", "headers"); err != nil {
			return nil, err
		}
		all := true
		for _, h := range m.GetHeaders() {
			_, holds, err := readHeader(h)
			if err != nil {
				return nil, err
			}
			all = all && holds(q)
		}
		if m.GetExpectMatch() != nil && all != m.GetExpectMatch().GetValue() {
			return nil, nil //nolint:nilnil // nothing is asked
		}
		return &ratelimitv3.RateLimitDescriptor_Entry{Key: m.GetDescriptorKey(), Value: m.GetDescriptorValue()}, nil
	default:
		return nil, fmt.Errorf("%T is not known", to)
	}
}
