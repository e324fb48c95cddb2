package energy

import "math/bits"

// Share is what one party used in an interval.
type Share struct {
	// CPU time in nanoseconds; the weight in the dynamic pool.
	CPU uint64
	// Requests are the CPU requests in millicores; the weight in the static pool.
	Requests uint64
}

// Interval is what was measured between two readings.
type Interval struct {
	// Measured energy of the node in microjoules.
	Measured uint64
	// Static is what the node would have used doing nothing, in microjoules; at most Measured of it counts.
	Static uint64
	// System is the CPU time in nanoseconds that belongs to no party: kernel, daemons, other processes.
	System uint64
	// Allocatable is the CPU capacity of the node in millicores; what nobody requested is unallocated.
	Allocatable uint64
	Parties     []Share
}

// Attribution says who used the energy of an Interval, in microjoules. Its Sum is the interval's Measured, exactly.
type Attribution struct {
	// Dynamic and Idle run parallel to the interval's parties.
	Dynamic []uint64
	Idle    []uint64
	// System is the dynamic energy of no party.
	System uint64
	// Unallocated is the static energy that nobody requested.
	Unallocated uint64
}

// Sum is all energy attributed.
func (a Attribution) Sum() uint64 {
	sum := a.System + a.Unallocated
	for i := range a.Dynamic {
		sum += a.Dynamic[i] + a.Idle[i]
	}
	return sum
}

// Attribute splits an interval's energy: the static pool by requests, the rest by CPU time. Energy that no weight
// claims goes to the system (dynamic) and stays unallocated (static).
func Attribute(in Interval) Attribution {
	static := min(in.Measured, in.Static)
	n := len(in.Parties)
	cpu, requests := make([]uint64, n+1), make([]uint64, n+1)
	var requested uint64
	for i, p := range in.Parties {
		cpu[i], requests[i] = p.CPU, p.Requests
		requested = addSaturating(requested, p.Requests)
	}
	cpu[n] = in.System
	requests[n] = in.Allocatable - min(in.Allocatable, requested)

	dynamic := splitOrLast(in.Measured-static, cpu)
	idle := splitOrLast(static, requests)
	return Attribution{Dynamic: dynamic[:n], Idle: idle[:n], System: dynamic[n], Unallocated: idle[n]}
}

// splitOrLast is Split, but the last part takes all when every weight is 0.
func splitOrLast(total uint64, weights []uint64) []uint64 {
	last := len(weights) - 1
	for _, w := range weights[:last] {
		if w != 0 {
			return Split(total, weights)
		}
	}
	parts := make([]uint64, len(weights))
	parts[last] = total
	return parts
}

func addSaturating(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return ^uint64(0)
	}
	return sum
}
