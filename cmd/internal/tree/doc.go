// Package tree holds the shape of the repository to what the README and the import rules say. It has tests only.
package tree
