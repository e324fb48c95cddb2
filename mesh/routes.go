package mesh

import (
	"fmt"
	"slices"
)

// Routes turns who gets which variant into an ordered list of routes, of which the first that matches wins:
//
//	pin-<variant>       the tester's header names the variant
//	pin-stable
//	canary-hosts        the request is for a preview host
//	canary-cohort       a header has one of the cohort's values
//	<variant>-buckets   the bucket header, or else the cookie, holds a bucket of the variant
//	stable-buckets      any other valid bucket
//	draw or weighted    the rest: with a cookie a bucket is drawn and kept, without one every request is drawn anew
//	hashed-<rollout>    instead of these where a header is hashed
//
// A variant without buckets has its pin only. The routes of each further HTTP port come before these, with its number in their
// matches and at the end of their names. A route without one is for the service's own port, and for gateways, whose ports have
// numbers of their own. There are no routes where no port speaks HTTP (see Streams). The traffic must be valid (see Validate).
func Routes(t Traffic) []Route {
	var all []Route
	for _, p := range t.Service.Ports {
		if p.Protocol == HTTP {
			all = append(all, at(p.Number, routes(t))...)
		}
	}
	if t.Service.Protocol == "" || t.Service.Protocol == HTTP {
		all = append(all, routes(t)...)
	}
	return all
}

// at confines routes to a port.
func at(port int, all []Route) []Route {
	for i := range all {
		r := &all[i]
		r.Name, r.Port = fmt.Sprintf("%s-%d", r.Name, port), port
		if len(r.Matches) == 0 {
			r.Matches = []Match{{}}
		}
		for j := range r.Matches {
			r.Matches[j].Port = port
		}
	}
	return all
}

// routes are those of one port. Users' requests, which are none of the testers', are mirrored.
func routes(t Traffic) []Route {
	var pins, splits []Route
	for _, s := range t.Shares[1:] {
		pins = append(pins, pin(s))
		if len(s.Buckets) > 0 {
			splits = append(splits, owned(t, s, s.Buckets)...)
		}
	}
	stable := t.Shares[0]
	all := append(pins, pin(stable))
	all = append(all, previewed(t)...)
	all = append(all, cohort(t)...)
	all = append(all, splits...)
	if len(stable.Buckets) > 0 {
		// Any valid bucket, not the stable set: whatever a variant above did not take is stable.
		users := owned(t, stable, allBuckets())
		for i := range users {
			users[i].Mirror = t.Copies()
		}
		all = append(all, users...)
	}
	last := rest(t)
	last.Mirror = t.Copies()
	return append(all, last)
}

// Stream says where the connections to a port lead. The weights sum to 100, and a destination has no headers.
type Stream struct {
	Port         Port
	Destinations []Destination
}

// Streams are the ports that speak TCP or TLS: further ones in the order of their numbers, then the service's own, to which whatever
// comes for none of them leads at a gateway.
func Streams(t Traffic) []Stream {
	further := slices.SortedFunc(slices.Values(t.Service.Ports), func(a, b Port) int { return a.Number - b.Number })
	var all []Stream
	for _, p := range append(further, Port{t.Service.Port, t.Service.Protocol}) {
		if p.Protocol != TCP && p.Protocol != TLS {
			continue
		}
		s := Stream{Port: p}
		for _, share := range t.Shares {
			if n := len(share.Buckets); n > 0 {
				s.Destinations = append(s.Destinations, Destination{Variant: share.Variant, Version: share.Version, Weight: n})
			}
		}
		all = append(all, s)
	}
	return all
}

// pin sends testers to the variant that they name.
func pin(s Share) Route {
	return Route{
		Name:         "pin-" + string(s.Variant),
		Matches:      []Match{{Headers: map[string]StringMatch{VariantHeader: {Exact: string(s.Variant)}}}},
		Destinations: []Destination{destination(s, Buckets)},
	}
}

// owned sends units with one of the buckets to the share. There is no such route when units are not recognised at all.
func owned(t Traffic, s Share, buckets []int) []Route {
	matches := bucketMatches(t, buckets)
	if len(matches) == 0 {
		return nil
	}
	return []Route{{
		Name:         string(s.Variant) + "-buckets",
		Matches:      matches,
		Destinations: []Destination{destination(s, Buckets)},
	}}
}

// bucketMatches recognises units with one of the buckets. The header wins: the cookie counts only where the header
// holds no valid bucket, so that an invalid header is the same as none.
func bucketMatches(t Traffic, buckets []int) []Match {
	var matches []Match
	var without map[string]StringMatch
	if t.BucketHeader != "" {
		matches = append(matches, Match{Headers: map[string]StringMatch{t.BucketHeader: {Regex: BucketPattern(buckets)}}})
		without = map[string]StringMatch{t.BucketHeader: {Regex: BucketPattern(allBuckets())}}
	}
	if t.Cookie != nil {
		cookie := StringMatch{Regex: cookiePattern(t.Cookie.Name, buckets)}
		matches = append(matches, Match{Headers: map[string]StringMatch{"cookie": cookie}, Without: without})
	}
	return matches
}

// rest is the last route, for requests without a bucket. It has no retries whatever the split, so that the figures
// before and during a ramp stay comparable.
func rest(t Traffic) Route {
	if t.HashHeader != "" {
		return Route{Name: t.HashRoute(), Destinations: hashed(t), NoRetries: true}
	}
	if t.Cookie != nil {
		return Route{Name: "draw", Destinations: drawn(t), NoRetries: true}
	}
	r := Route{Name: "weighted", NoRetries: true}
	for _, s := range t.Shares {
		if len(s.Buckets) > 0 {
			r.Destinations = append(r.Destinations, destination(s, len(s.Buckets)))
		}
	}
	return r
}

// HashRoute is the name of the route on which a unit's hash decides. It is the rollout's own, since a data plane is told by
// this name which route it is. At a further port the port's number follows it.
func (t Traffic) HashRoute() string { return "hashed-" + t.Rollout }

// hashed are always two destinations or three, also where one has a weight of 0: a data plane walks them in order until their
// weights reach the hash modulo 100. Stable stands after the first other variant and before the second, so that each of them
// grows at its own end, out of stable alone.
func hashed(t Traffic) []Destination {
	stable := t.Shares[0]
	if len(t.Shares) == 1 {
		return []Destination{destination(stable, Buckets), destination(stable, 0)}
	}
	ordered := append([]Share{t.Shares[1], stable}, t.Shares[2:]...)
	out := make([]Destination, len(ordered))
	for i, s := range ordered {
		out[i] = destination(s, len(s.Buckets))
	}
	return out
}

// drawn is one destination of weight 1 per bucket, in the order of the buckets: choosing it hands out the bucket.
func drawn(t Traffic) []Destination {
	destinations := make([]Destination, Buckets)
	for _, s := range t.Shares {
		for _, b := range s.Buckets {
			d := destination(s, 1)
			d.AddResponse = map[string]string{"set-cookie": t.Cookie.set(b)}
			destinations[b] = d
		}
	}
	return destinations
}

// set is the value of the Set-Cookie header that hands out a bucket.
func (c Cookie) set(bucket int) string {
	return fmt.Sprintf("%s=%s; Max-Age=%d; Path=/; HttpOnly; SameSite=Lax", c.Name, FormatBucket(bucket), c.MaxAgeSeconds)
}

// destination is the share's version; it tells the tiers behind, and the caller, which variant was chosen.
func destination(s Share, weight int) Destination {
	return Destination{
		Variant:     s.Variant,
		Version:     s.Version,
		Weight:      weight,
		SetRequest:  map[string]string{VariantHeader: string(s.Variant)},
		SetResponse: map[string]string{VariantHeader: string(s.Variant)},
	}
}

func allBuckets() []int {
	all := make([]int, Buckets)
	for b := range all {
		all[b] = b
	}
	return all
}
