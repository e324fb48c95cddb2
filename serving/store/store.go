// Package store fetches model artefacts from S3 and from directories.
//
// An artefact is the files directly in one folder. The folder is given as a location in which {model} and {version} stand
// for the names that are asked for; a location without them is one model's folder:
//
//	s3://models/{model}/{version}/    every version of every model in a bucket
//	file:///srv/models/{model}        the newest files of each model
//	/mnt/models                       one model, as a storage initializer puts it there
//
// A fetch is whole or fails: when a file changes while the others are read, when one is cut short, or when a file does
// not match the folder's SHA256SUMS, there is no artefact.
package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/siskin-dev/siskin/serving"
)

// ErrNotFound tells that the folder is not there or holds no files.
var ErrNotFound = errors.New("no files")

// ErrChanged tells that files changed while they were read; the next fetch may find them at rest.
var ErrChanged = errors.New("files changed while they were read")

// sumsFile lists the SHA-256 of each other file, as sha256sum(1) writes it. It is optional.
const sumsFile = "SHA256SUMS"

const (
	maxFiles = 64
	// defaultMaxBytes bounds the files of an artefact together. They are held in memory while they load.
	defaultMaxBytes = 1 << 30
)

// Open returns the source at a location: "s3://bucket/prefix", "file:///path" or a path. The options matter to S3 only.
func Open(location string, o S3Options) (serving.Source, error) {
	switch scheme, rest, found := strings.Cut(location, "://"); {
	case location == "":
		return nil, errors.New("reading location \"\": want s3://bucket/prefix or a path")
	case !found:
		return NewDir(location), nil
	case scheme == "file":
		return NewDir(rest), nil
	case scheme == "s3":
		return NewS3(location, o)
	}
	return nil, fmt.Errorf("reading location %q: want s3://bucket/prefix, file:///path or a path", location)
}

// entry is one file of a folder. Tag changes when its content does.
type entry struct {
	name, tag string
	size      int64
}

// expand puts the names into a location. They must not lead out of it.
func expand(location, name, version string) (string, error) {
	for what, v := range map[string]string{"model": name, "version": version} {
		placeholder := "{" + what + "}"
		if !strings.Contains(location, placeholder) {
			continue
		}
		if v == "" || v == "." || v == ".." || strings.ContainsAny(v, "/\\\x00{}") {
			return "", fmt.Errorf("reading %s %q: want a name without slashes and braces", what, v)
		}
		location = strings.ReplaceAll(location, placeholder, v)
	}
	return location, nil
}

// revision condenses what is in a folder. It does not depend on the order of the list.
func revision(entries []entry) string {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%q %q %d\n", e.name, e.tag, e.size)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func checkEntries(folder string, entries []entry, maxBytes int64) error {
	if len(entries) == 0 {
		return fmt.Errorf("%w in %q", ErrNotFound, folder)
	}
	if len(entries) > maxFiles {
		return fmt.Errorf("listing %q: more than %d files", folder, maxFiles)
	}
	var total int64
	for _, e := range entries {
		total += e.size
	}
	if total > maxBytes {
		return fmt.Errorf("listing %q: %d bytes, want at most %d", folder, total, maxBytes)
	}
	return nil
}

// checkSums holds the files to SHA256SUMS where that is among them. Every other file must be in it, or a file that was
// added later would pass unchecked.
func checkSums(files map[string][]byte) error {
	text, ok := files[sumsFile]
	if !ok {
		return nil
	}
	listed := map[string]bool{sumsFile: true}
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return fmt.Errorf("reading %s: line %.80q, want a sum and a name", sumsFile, line)
		}
		name = path.Base(strings.TrimLeft(name, " *"))
		got := sha256.Sum256(files[name])
		if _, there := files[name]; !there || !strings.EqualFold(sum, hex.EncodeToString(got[:])) {
			return fmt.Errorf("checking %q against %s: got SHA-256 %x of %d bytes, want %.64s", name, sumsFile, got, len(files[name]), sum)
		}
		listed[name] = true
	}
	for name := range files {
		if !listed[name] {
			return fmt.Errorf("checking %q against %s: not listed", name, sumsFile)
		}
	}
	return nil
}
