// Package chaos holds the tests that do to the controller what a bad day does: its process is killed again and again
// during a rollout, somebody edits its objects, Prometheus hangs, and a thousand rollouts run at once. They use the real
// binary, a real Kubernetes API and a real Prometheus in the process.
//
// A plain test run kills five times and skips the thousand rollouts; with -args -chaos it does all of it.
package chaos
