// Package test tests against other real programs, a module of its own.
//
// Prometheus scrapes a gateway and the source of evidence reads its blocks back; promtool checks every rule; Alertmanager
// notifies the controller. Programs come from Debian packages: a test fails, and names the package, where one is missing.
// Real Redis is met in ingest/redis.
package test
