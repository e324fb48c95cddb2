package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/siskin-dev/siskin/serving"
)

// Dir fetches artefacts from a directory. It implements serving.Source.
type Dir struct {
	location string
}

// NewDir returns the source at a path, in which {model} and {version} may stand.
func NewDir(location string) *Dir { return &Dir{location} }

// Fetch implements serving.Source.
func (d *Dir) Fetch(ctx context.Context, name, version string) (serving.Artefact, error) {
	folder, entries, err := d.list(name, version)
	if err != nil {
		return serving.Artefact{}, err
	}
	before := revision(entries)
	files := make(map[string][]byte, len(entries))
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return serving.Artefact{}, err
		}
		data, err := os.ReadFile(filepath.Join(folder, e.name))
		if err != nil {
			return serving.Artefact{}, fmt.Errorf("reading model file: %w", err)
		}
		files[e.name] = data
	}
	after, err := d.Revision(ctx, name, version)
	if err != nil {
		return serving.Artefact{}, err
	}
	if after != before {
		return serving.Artefact{}, fmt.Errorf("reading %q: %w", folder, ErrChanged)
	}
	if err := checkSums(files); err != nil {
		return serving.Artefact{}, fmt.Errorf("reading %q: %w", folder, err)
	}
	return serving.Artefact{Name: name, Version: version, Revision: before, Files: files}, nil
}

// Revision implements serving.Source. It looks at sizes and times of change, not at contents.
func (d *Dir) Revision(_ context.Context, name, version string) (string, error) {
	_, entries, err := d.list(name, version)
	return revision(entries), err
}

// list skips folders and hidden names, such as the links by which Kubernetes swaps a mounted ConfigMap.
func (d *Dir) list(name, version string) (string, []entry, error) {
	folder, err := expand(d.location, name, version)
	if err != nil {
		return "", nil, err
	}
	found, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		return "", nil, fmt.Errorf("listing models: %w", err)
	}
	var entries []entry
	for _, f := range found {
		if strings.HasPrefix(f.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(folder, f.Name()))
		if err != nil {
			return "", nil, fmt.Errorf("listing models: %w", err)
		}
		if info.Mode().IsRegular() {
			entries = append(entries, entry{f.Name(), fmt.Sprint(info.ModTime().UnixNano()), info.Size()})
		}
	}
	return folder, entries, checkEntries(folder, entries, defaultMaxBytes)
}
