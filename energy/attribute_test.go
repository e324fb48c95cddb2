package energy

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAttribute(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     Interval
		want   Attribution
	}{
		"DynamicByCPU": {
			reason: "active 50 J over shares 0.3, 0.2, 0.15 and the system's 0.35",
			in: Interval{
				Measured: 50e6, System: 350, Parties: []Share{{CPU: 300}, {CPU: 200}, {CPU: 150}},
				Allocatable: 1000,
			},
			want: Attribution{Dynamic: []uint64{15e6, 10e6, 7.5e6}, Idle: []uint64{0, 0, 0}, System: 17.5e6},
		},
		"StaticByRequests": {
			reason: "30 of 40 J are static; half the node is requested, 1 to 4; of the 10 dynamic, 20 % is 2 J",
			in: Interval{
				Measured: 40e6, Static: 30e6, System: 80, Allocatable: 4000,
				Parties: []Share{{CPU: 20, Requests: 400}, {Requests: 1600}},
			},
			want: Attribution{Dynamic: []uint64{2e6, 0}, Idle: []uint64{3e6, 12e6}, System: 8e6, Unallocated: 15e6},
		},
		"IdleNode": {
			reason: "less than the static power was used: nothing is dynamic",
			in:     Interval{Measured: 5, Static: 30, Allocatable: 10, Parties: []Share{{CPU: 9, Requests: 10}}},
			want:   Attribution{Dynamic: []uint64{0}, Idle: []uint64{5}},
		},
		"NoWeights": {
			reason: "nobody used CPU or requested any: the system takes the dynamic pool, the static one is unallocated",
			in:     Interval{Measured: 11, Static: 4, Parties: []Share{{}, {}}},
			want:   Attribution{Dynamic: []uint64{0, 0}, Idle: []uint64{0, 0}, System: 7, Unallocated: 4},
		},
		"NoParties": {
			reason: "an empty node",
			in:     Interval{Measured: 11, Static: 4, System: 3, Allocatable: 5},
			want:   Attribution{Dynamic: []uint64{}, Idle: []uint64{}, System: 7, Unallocated: 4},
		},
		"Overcommitted": {
			reason: "more is requested than there is: nothing is unallocated",
			in:     Interval{Measured: 10, Static: 10, Allocatable: 1000, Parties: []Share{{Requests: 1500}, {Requests: 1500}}},
			want:   Attribution{Dynamic: []uint64{0, 0}, Idle: []uint64{5, 5}},
		},
		"NothingMeasured": {
			reason: "zero power gives nobody anything",
			in:     Interval{Static: 4, System: 3, Parties: []Share{{CPU: 5}}},
			want:   Attribution{Dynamic: []uint64{0}, Idle: []uint64{0}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Attribute(tc.in)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", tc.reason, diff)
			}
			if got.Sum() != tc.in.Measured {
				t.Errorf("%s: attributed %d of %d", tc.reason, got.Sum(), tc.in.Measured)
			}
		})
	}
}

// Invariant 10 for any numbers at all.
func FuzzAttribute(f *testing.F) {
	f.Add(uint64(40e6), uint64(30e6), uint64(80), uint64(4000), uint64(20), uint64(400), uint64(0), uint64(1600))
	f.Add(^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0))
	f.Fuzz(func(t *testing.T, measured, static, system, allocatable, cpu1, req1, cpu2, req2 uint64) {
		in := Interval{
			Measured: measured, Static: static, System: system, Allocatable: allocatable,
			Parties: []Share{{cpu1, req1}, {cpu2, req2}},
		}
		if got := Attribute(in); got.Sum() != measured {
			t.Fatalf("Attribute(%+v) = %+v: sum %d", in, got, got.Sum())
		}
	})
}

func BenchmarkAttribute1000(b *testing.B) {
	rng := rand.New(rand.NewPCG(3, 4))
	in := Interval{
		Measured: 1_234_567_891, Static: 400_000_003, System: 1e9, Allocatable: 2_000_000,
		Parties: make([]Share, 1000),
	}
	for i := range in.Parties {
		in.Parties[i] = Share{CPU: rng.Uint64N(1e9), Requests: rng.Uint64N(1000)}
	}
	b.ReportAllocs()
	for b.Loop() {
		Attribute(in)
	}
}
