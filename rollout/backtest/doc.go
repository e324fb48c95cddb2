// Package backtest replays blocks of traffic, recorded or simulated, through the judge that the controller uses, and
// says how often it would have been wrong and how soon it would have been right.
//
// Nothing here decides anything: Replay calls rollout.Judge, rollout.Decide, Run.Count and Run.After in the controller's
// order. It is pure: the clock is the blocks' own, and randomness is passed in.
package backtest
