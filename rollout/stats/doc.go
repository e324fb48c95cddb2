// Package stats holds the mathematics of the judge: sequential tests whose error bounds hold at every look.
//
// The numbers it works with are e-values. An e-process E is never negative and has a mean of at most one under its null
// hypothesis at every stopping time, so P(sup E >= 1/alpha) <= alpha (Ville's inequality): one may look as often as one
// likes and stop when one likes. Products over blocks, weighted averages and mixtures of e-processes are e-processes.
// All values are natural logarithms, since e-values overflow.
//
// The functions are deterministic and use the standard library only; sources are named where a formula stands.
package stats
