// Package rollout decides how the traffic of one service moves from its stable version to a new one.
//
// It is the loop of Siskin without its hands and eyes: what to observe (Question), what the evidence says (Judge), and
// what to do next (Decide), for units that fall into buckets. Everything here is a pure function of its arguments: no
// clock, no input or output, no randomness. The controller asks the questions of Prometheus, and writes the answers to
// the mesh.
//
//	observe   Question  -> []Block     raw counts per variant on a fixed wall-clock grid
//	judge     Judge     -> []Finding   each gate's verdict with estimate, interval and e-values
//	decide    Decide    -> Outcome     the first rule that speaks: roll back, pause, hold, advance or promote
//	act       Run.After -> Run         the run after the decision; its Weight is what the mesh must show
package rollout
