package serving

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Errors of Lookup. An unknown name is the caller's mistake; a model that is not ready may be soon.
var (
	ErrUnknownModel   = errors.New("unknown model")
	ErrUnknownVersion = errors.New("unknown version")
	ErrNotReady       = errors.New("model not ready")
)

// Artefact is one version of a model as it was stored.
type Artefact struct {
	Name, Version string
	// Revision changes when a stored file does; an ETag or a hash.
	Revision string
	// Files holds the content by name, such as "model.ubj", "metadata.json" and "golden.csv".
	Files map[string][]byte
}

// Source fetches artefacts from where they are kept.
type Source interface {
	// Fetch reads all files of one version.
	Fetch(ctx context.Context, name, version string) (Artefact, error)
	// Revision returns what Fetch would give as the revision, without reading the files.
	Revision(ctx context.Context, name, version string) (string, error)
}

// Decoder makes a model of an artefact, or says why that cannot be.
type Decoder func(Artefact) (Model, error)

// RepositoryOptions configure NewRepository.
type RepositoryOptions struct {
	// Source fetches artefacts. Required.
	Source Source
	// Decode reads them. Required.
	Decode Decoder
	// Metrics counts loads and requests. Default: metrics that nobody sees.
	Metrics *Metrics
}

// Loaded is a version that answers requests. It never changes; a swap puts another one in its place, and requests that
// have it finish with it.
type Loaded struct {
	Name, Version, Revision string
	Model                   Model
	Spec                    Spec

	answerHead []byte
	metrics    *modelMetrics
}

// States of a version in the index.
const (
	stateReady       = "READY"
	stateUnavailable = "UNAVAILABLE"
)

// Status is one version in the repository's index, in the words of the model repository extension.
type Status struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
}

// family is all versions of one model. A version maps to nil until its first load succeeds.
type family struct {
	versions map[string]*Loaded
	reasons  map[string]string // why the last load of a version failed
	latest   string            // the version that was put in place last; it answers requests that name none
}

// Repository holds the models that are served. Readers take the index without a lock; loads happen one at a time.
type Repository struct {
	source  Source
	decode  Decoder
	metrics *Metrics
	calls   *sync.Pool

	// loading serialises Expect, Load and Refresh, so that an older fetch cannot overtake a newer one.
	loading sync.Mutex
	index   atomic.Pointer[map[string]*family]
}

// NewRepository returns an empty repository.
func NewRepository(o RepositoryOptions) *Repository {
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	r := &Repository{source: o.Source, decode: o.Decode, metrics: o.Metrics, calls: newCallPool()}
	r.index.Store(&map[string]*family{})
	return r
}

// Expect announces a version that is to be loaded: until then it is known and not ready, and so is the server.
func (r *Repository) Expect(name, version string) {
	r.loading.Lock()
	defer r.loading.Unlock()
	r.expect(name, version)
}

// Load fetches one version, decodes and verifies it, and puts it in its place. When any step fails, what was there
// before goes on answering, the failure is counted, and the error says which step it was.
func (r *Repository) Load(ctx context.Context, name, version string) error {
	r.loading.Lock()
	defer r.loading.Unlock()
	r.expect(name, version)
	return r.load(ctx, name, version)
}

// Refresh loads a version again when its stored revision has changed, and tells whether it did. A revision that failed
// to load is tried again each time: what is stored may be half written.
func (r *Repository) Refresh(ctx context.Context, name, version string) (swapped bool, err error) {
	r.loading.Lock()
	defer r.loading.Unlock()
	r.expect(name, version)
	live := (*r.index.Load())[name].versions[version]
	if live != nil {
		revision, err := r.source.Revision(ctx, name, version)
		if err != nil {
			return false, fmt.Errorf("asking for the revision of %q version %q: %w", name, version, err)
		}
		if revision == live.Revision {
			return false, nil
		}
	}
	err = r.load(ctx, name, version)
	return err == nil, err
}

// expect and load need the lock.
func (r *Repository) expect(name, version string) {
	if f := (*r.index.Load())[name]; f != nil {
		if _, known := f.versions[version]; known {
			return
		}
	}
	r.metrics.expect(name, version)
	r.update(name, func(f *family) { f.versions[version] = nil })
}

func (r *Repository) load(ctx context.Context, name, version string) error {
	m, err := r.prepare(ctx, name, version)
	if err != nil {
		r.metrics.loadFailed(name, version)
		r.update(name, func(f *family) { f.reasons[version] = err.Error() })
		return fmt.Errorf("loading model %q version %q: %w", name, version, err)
	}
	r.metrics.loaded(name, version, m.Spec.Platform)
	r.update(name, func(f *family) {
		f.versions[version] = m
		f.latest = version
		delete(f.reasons, version)
	})
	return nil
}

// prepare does everything that can fail, and nothing that anybody can see.
func (r *Repository) prepare(ctx context.Context, name, version string) (*Loaded, error) {
	a, err := r.source.Fetch(ctx, name, version)
	if err != nil {
		return nil, fmt.Errorf("fetching: %w", err)
	}
	model, err := r.decode(a)
	if err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	if err := verify(model, a.Files[goldenFile]); err != nil {
		return nil, fmt.Errorf("verifying: %w", err)
	}
	return &Loaded{
		Name: name, Version: version, Revision: a.Revision, Model: model, Spec: model.Spec(),
		answerHead: answerHead(name, version), metrics: r.metrics.model(name, version),
	}, nil
}

// update replaces the index by one in which change was made to a copy of name's family.
func (r *Repository) update(name string, change func(*family)) {
	next := maps.Clone(*r.index.Load())
	f := &family{versions: map[string]*Loaded{}, reasons: map[string]string{}}
	if old := next[name]; old != nil {
		f = &family{versions: maps.Clone(old.versions), reasons: maps.Clone(old.reasons), latest: old.latest}
	}
	change(f)
	next[name] = f
	r.index.Store(&next)
}

// Lookup finds the version that answers; without a version it is the one that was put in place last.
func (r *Repository) Lookup(name, version string) (*Loaded, error) {
	f := (*r.index.Load())[name]
	if f == nil {
		return nil, fmt.Errorf("%w %.100q", ErrUnknownModel, name)
	}
	if version == "" {
		version = f.latest
	}
	m, known := f.versions[version]
	switch {
	case m != nil:
		return m, nil
	case known || version == "":
		return nil, fmt.Errorf("%w: %.100q", ErrNotReady, name)
	}
	return nil, fmt.Errorf("%w %.100q of model %.100q", ErrUnknownVersion, version, name)
}

// List returns every known version, by name and version.
func (r *Repository) List() []Status {
	list := []Status{}
	for name, f := range *r.index.Load() {
		for version, m := range f.versions {
			s := Status{Name: name, Version: version, State: stateUnavailable, Reason: f.reasons[version]}
			if m != nil {
				s.State = stateReady
			}
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Status) int {
		return slices.Compare([]string{a.Name, a.Version}, []string{b.Name, b.Version})
	})
	return list
}

// Ready returns nil when every expected version answers, else which do not. A repository that expects nothing is not
// ready: it could answer nothing.
func (r *Repository) Ready() error {
	list := r.List()
	var missing []string
	for _, s := range list {
		if s.State != stateReady {
			missing = append(missing, s.Name+" "+s.Version)
		}
	}
	if len(list) == 0 || len(missing) > 0 {
		return fmt.Errorf("%w: %.500q of %d expected", ErrNotReady, missing, len(list))
	}
	return nil
}

// versions lists the versions of one model that answer.
func (r *Repository) versions(name string) []string {
	var out []string
	for _, s := range r.List() {
		if s.Name == name && s.State == stateReady {
			out = append(out, s.Version)
		}
	}
	return out
}
