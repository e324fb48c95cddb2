// Package experiment decides what an experiment with two to ten variants of one service has shown.
//
// It is the judge of A/B/n experiments as package rollout is that of rollouts, and is made of it: each variant but the control is
// an arm, with a rollout.Run of its own against the control, judged by rollout.Judge. Everything here is a pure function of its
// arguments: no clock, no input or output, no randomness.
//
//	allocate  Begin      -> Run                 disjoint buckets for the variants, among those the layer has free
//	observe   Questions  -> [][]rollout.Block   raw counts for each arm and the control
//	count     Run.Count  -> Run                 each block once, each bucket with the variant that owns it
//	judge     Judge      -> Result              winner, no difference, harm, invalid, inconclusive, or still running
package experiment
