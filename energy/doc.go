// Package energy attributes the joules of a node to the versions that spent them, conserved to the microjoule.
//
// A Meter says how much energy the node has used, a Usage says how much CPU time each party has had, and the Collector
// closes an interval whenever its ticker fires: what was measured is split into a static pool (by CPU requests, the rest
// unallocated) and a dynamic pool (by CPU time, with the system as a party). All bookkeeping is in unsigned integers:
// attributed + idle + unallocated = measured, exactly, in every interval, and no counter ever falls.
//
// It refuses readings that physics refuses: more power than a zone can draw, a step back that is no wrap, a sentinel.
// A refused or failed reading adds 0, and the next good one catches up. The package knows no file system and no clock;
// the sub-rooms read the kernel.
package energy
