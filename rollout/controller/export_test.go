package controller

// Backoff is backoff, for the tests.
var Backoff = backoff
