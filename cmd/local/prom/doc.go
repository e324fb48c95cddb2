// Package prom is a small Prometheus inside the process: its time series database, its query engine, its HTTP API and a
// scraper, bound to loopback.
//
// The database and the engine are Prometheus' own, so every query means what it means in a cluster. The HTTP API serves
// what clients of queries use: query, query_range, series, labels and label values. There are no rules, no alerts, no
// configuration file and no native histograms.
//
// The scraper keeps Prometheus' promises: a series that vanishes from a target, and every series of a target that fails or
// is removed, gets a staleness marker, so that a query sees its end at once instead of its last value for minutes; each
// target has the series up, scrape_duration_seconds and scrape_samples_scraped; a scraped label that a target label
// hides is kept under the prefix exported_.
package prom
