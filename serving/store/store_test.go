package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/siskin-dev/siskin/serving"
)

// place is where a test keeps files; both kinds of source must behave alike.
type place struct {
	source func(location string) serving.Source
	put    func(key, content string)
	remove func(key string)
}

func places(t *testing.T) map[string]place {
	return map[string]place{"S3": bucket(t, nil), "directory": folder(t)}
}

// bucket runs an S3 stand-in. around, when given, sees every request first.
func bucket(t *testing.T, around func(http.Handler) http.Handler) place {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("models"); err != nil {
		t.Fatal(err)
	}
	h := gofakes3.New(backend).Server()
	if around != nil {
		h = around(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return place{
		source: func(location string) serving.Source {
			s, err := Open("s3://models/"+location, S3Options{Endpoint: server.URL, AccessKey: "k", SecretKey: "s"})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		put: func(key, content string) {
			meta := map[string]string{"Last-Modified": time.Now().UTC().Format(http.TimeFormat)} // as an upload over HTTP sets it
			_, err := backend.PutObject("models", key, meta, bytes.NewReader([]byte(content)), int64(len(content)), nil)
			if err != nil {
				t.Error(err)
			}
		},
		remove: func(key string) {
			if _, err := backend.DeleteObject("models", key); err != nil {
				t.Error(err)
			}
		},
	}
}

func folder(t *testing.T) place {
	t.Helper()
	root := t.TempDir()
	return place{
		source: func(location string) serving.Source {
			s, err := Open(filepath.Join(root, location), S3Options{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		put: func(key, content string) {
			path := filepath.Join(root, key)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
				t.Fatal(err)
			}
		},
		remove: func(key string) {
			if err := os.Remove(filepath.Join(root, key)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func text(a serving.Artefact) map[string]string {
	out := map[string]string{}
	for name, data := range a.Files {
		out[name] = string(data)
	}
	return out
}

func TestFetch(t *testing.T) {
	for kind, p := range places(t) {
		for key, content := range map[string]string{
			"coolant/v1/model.ubj":        "one",
			"coolant/v1/metadata.json":    "{}",
			"coolant/v1/parts/weights":    "not directly in it",
			"coolant/v10/model.ubj":       "ten",
			"coolant/v1-old/model.ubj":    "old",
			"oil/v1/model.ubj":            "oil",
			"exact/model.json":            "exact",
			"coolant/v1/empty":            "",
			"deep/a/b/coolant/v3/m/model": "deep",
		} {
			p.put(key, content)
		}
		for reason, c := range map[string]struct {
			location, model, version string
			want                     map[string]string
		}{
			"v1 is not v10":        {"{model}/{version}", "coolant", "v1", map[string]string{"model.ubj": "one", "metadata.json": "{}", "empty": ""}},
			"slash given":          {"{model}/{version}/", "coolant", "v10", map[string]string{"model.ubj": "ten"}},
			"other model":          {"{model}/{version}", "oil", "v1", map[string]string{"model.ubj": "oil"}},
			"exact folder":         {"exact", "any", "9", map[string]string{"model.json": "exact"}},
			"names in the middle":  {"deep/a/b/{model}/{version}/m", "coolant", "v3", map[string]string{"model": "deep"}},
			"version only":         {"coolant/{version}", "x", "v10", map[string]string{"model.ubj": "ten"}},
			"no such version":      {"{model}/{version}", "coolant", "v2", nil},
			"folder of folders":    {"{model}", "coolant", "v1", nil},
			"prefix of a name":     {"{model}/{version}", "coolant", "v", nil},
			"name leads out":       {"{model}/{version}", "..", "v1", nil},
			"version with a slash": {"{model}/{version}", "coolant", "v1/parts", nil},
			"empty version":        {"{model}/{version}", "coolant", "", nil},
		} {
			s := p.source(c.location)
			a, err := s.Fetch(t.Context(), c.model, c.version)
			if (err == nil) != (c.want != nil) {
				t.Errorf("%s, %s: error %v", kind, reason, err)
				continue
			}
			if err != nil {
				continue
			}
			if diff := cmp.Diff(c.want, text(a)); diff != "" {
				t.Errorf("%s, %s: %s", kind, reason, diff)
			}
			revision, err := s.Revision(t.Context(), c.model, c.version)
			if err != nil || revision != a.Revision || revision == "" {
				t.Errorf("%s, %s: Revision = %q, %v, want the fetch's %q", kind, reason, revision, err, a.Revision)
			}
			if a.Name != c.model || a.Version != c.version {
				t.Errorf("%s, %s: artefact is %q %q", kind, reason, a.Name, a.Version)
			}
		}
		if _, err := p.source("nothing/here").Fetch(t.Context(), "m", "1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error %v, want %v", kind, err, ErrNotFound)
		}
	}
}

func TestRevisionChanges(t *testing.T) {
	for kind, p := range places(t) {
		s := p.source("{model}/{version}")
		seen := map[string]string{}
		look := func(step string) {
			t.Helper()
			r, err := s.Revision(t.Context(), "m", "1")
			if err != nil {
				t.Fatal(err)
			}
			if before, twice := seen[r]; twice {
				t.Errorf("%s: the revision after %q is that after %q", kind, step, before)
			}
			seen[r] = step
		}
		p.put("m/1/model.ubj", "one")
		look("first file")
		p.put("m/1/model.ubj", "another")
		look("new content")
		p.put("m/1/metadata.json", "{}")
		look("second file")
		p.remove("m/1/model.ubj")
		look("first file removed")
		before := len(seen)
		p.put("m/10/model.ubj", "ten")
		if r, err := s.Revision(t.Context(), "m", "1"); err != nil || seen[r] == "" {
			t.Errorf("%s: a neighbour changed the revision (%v, %d)", kind, err, before)
		}
	}
}

func TestSums(t *testing.T) {
	line := func(content, name string) string {
		return fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(content)), name)
	}
	for reason, c := range map[string]struct{ sums, says string }{
		"right":            {line("one", "model.ubj") + line("{}", "metadata.json"), ""},
		"binary marks":     {strings.ReplaceAll(line("one", "model.ubj")+line("{}", "metadata.json"), "  ", " *"), ""},
		"dot slash":        {line("one", "./model.ubj") + line("{}", "./metadata.json"), ""},
		"other content":    {line("two", "model.ubj") + line("{}", "metadata.json"), "model.ubj"},
		"file not there":   {line("one", "model.ubj") + line("{}", "metadata.json") + line("", "more"), "more"},
		"file not listed":  {line("one", "model.ubj"), "metadata.json"},
		"no sum":           {"model.ubj\n", "model.ubj"},
		"empty sums":       {"", "not listed"},
		"sum is cut short": {line("one", "model.ubj")[10:] + line("{}", "metadata.json"), "model.ubj"},
	} {
		for kind, p := range places(t) {
			p.put("m/1/model.ubj", "one")
			p.put("m/1/metadata.json", "{}")
			p.put("m/1/"+sumsFile, c.sums)
			_, err := p.source("{model}/{version}").Fetch(t.Context(), "m", "1")
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s, %s: error %v, want it to name %q", kind, reason, err, c.says)
			}
		}
	}
}

// TestChangedWhileFetched uploads a new version between the list and the first object, and between the first object and
// the second list: neither gives an artefact.
func TestChangedWhileFetched(t *testing.T) {
	for reason, when := range map[string]struct {
		before func(r *http.Request) bool
		key    string
	}{
		"object replaced before it is read": {func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/a") }, "m/1/a"},
		"other object added meanwhile":      {func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/b") }, "m/1/c"},
		"read object replaced meanwhile":    {func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/b") }, "m/1/a"},
	} {
		var p place
		changed := false
		p = bucket(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !changed && r.Method == http.MethodGet && when.before(r) {
					changed = true
					p.put(when.key, "two!")
				}
				next.ServeHTTP(w, r)
			})
		})
		p.put("m/1/a", "one")
		p.put("m/1/b", "one")
		s := p.source("{model}/{version}")
		if _, err := s.Fetch(t.Context(), "m", "1"); !errors.Is(err, ErrChanged) || !changed {
			t.Errorf("%s: error %v, want %v", reason, err, ErrChanged)
		}
		a, err := s.Fetch(t.Context(), "m", "1")
		if err != nil || text(a)[filepath.Base(when.key)] != "two!" {
			t.Errorf("%s: at rest %v, %v, want the new files", reason, text(a), err)
		}
	}
}

func TestBounds(t *testing.T) {
	p := bucket(t, nil)
	for i := range maxFiles + 1 {
		p.put(fmt.Sprintf("many/1/%d", i), "x")
	}
	p.put("big/1/model", strings.Repeat("x", 100))
	s := p.source("{model}/{version}").(*S3)
	s.options.MaxBytes = 99
	for _, model := range []string{"many", "big"} {
		if _, err := s.Fetch(t.Context(), model, "1"); err == nil {
			t.Errorf("%s: no error", model)
		}
	}
}

func TestStoreDown(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	s, err := Open("s3://models/{model}", S3Options{Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Fetch(ctx, "m", "1"); err == nil {
		t.Error("Fetch: no error")
	}
	if _, err := s.Revision(ctx, "m", "1"); err == nil {
		t.Error("Revision: no error")
	}
}

func TestOpen(t *testing.T) {
	for location, want := range map[string]string{
		"":                        "error",
		"gs://bucket/models":      "error",
		"s3://":                   "error",
		"s3:///models":            "error",
		"s3://models":             "*store.S3",
		"s3://models/a/{version}": "*store.S3",
		"file:///srv/models":      "*store.Dir",
		"/srv/models":             "*store.Dir",
	} {
		s, err := Open(location, S3Options{Endpoint: "http://localhost:9000"})
		got := fmt.Sprintf("%T", s)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("Open(%q) is a %s (%v), want %s", location, got, err, want)
		}
	}
	if _, err := Open("s3://models", S3Options{Endpoint: "http://not a host"}); err == nil {
		t.Error("Open with a broken endpoint: no error")
	}
}
