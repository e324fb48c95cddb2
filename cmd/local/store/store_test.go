package store_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/siskin-dev/siskin/cmd/local/store"
)

func start(t *testing.T) *store.Server {
	t.Helper()
	s, err := store.Start(t.Context(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return s
}

func newS3(t *testing.T, s *store.Server) *minio.Client {
	t.Helper()
	c, err := minio.New(s.S3Addr(), &minio.Options{Creds: credentials.NewStaticV4(store.AccessKey, store.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPutModels(t *testing.T) {
	s := start(t)
	c := newS3(t, s)
	big := bytes.Repeat([]byte("tree"), 5<<20) // beyond minio-go's part size of 16 MiB
	keys, err := s.PutModels(t.Context(), "coolant", fstest.MapFS{
		"README.md":           {Data: []byte("about")},
		"v1/model.json":       {Data: []byte(`{"a":1}`)},
		"v1/metadata.json":    {Data: []byte(`{}`)},
		"v10/model.ubj":       {Data: big},
		"v2/parts/0/tree.bin": {Data: []byte("x")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"coolant/v1/metadata.json", "coolant/v1/model.json", "coolant/v10/model.ubj", "coolant/v2/parts/0/tree.bin"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if got := read(t, c, "coolant/v1/model.json"); string(got) != `{"a":1}` {
		t.Errorf("content: got %q", got)
	}
	if got := read(t, c, "coolant/v10/model.ubj"); !bytes.Equal(got, big) {
		t.Errorf("content of the large file: got %d bytes, want %d", len(got), len(big))
	}
	var listed []string
	for o := range c.ListObjects(t.Context(), store.Bucket, minio.ListObjectsOptions{Prefix: "coolant/v1/", Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if o.ETag == "" {
			t.Errorf("%s has no ETag; a change could not be noticed", o.Key)
		}
		listed = append(listed, o.Key)
	}
	if diff := cmp.Diff(want[:2], listed); diff != "" {
		t.Errorf("listing of a version (-want +got):\n%s", diff)
	}
}

func read(t *testing.T, c *minio.Client, key string) []byte {
	t.Helper()
	o, err := c.GetObject(t.Context(), store.Bucket, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	data, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPutModelsAgainChangesETag(t *testing.T) {
	s := start(t)
	c := newS3(t, s)
	tags := map[string]bool{}
	for _, content := range []string{"one", "two"} {
		if _, err := s.PutModels(t.Context(), "coolant", fstest.MapFS{"v1/model.json": {Data: []byte(content)}}); err != nil {
			t.Fatal(err)
		}
		info, err := c.StatObject(t.Context(), store.Bucket, "coolant/v1/model.json", minio.StatObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tags[info.ETag] = true
	}
	if len(tags) != 2 {
		t.Errorf("ETags of two contents: got %v, want two", tags)
	}
}

func TestPutModelsRefuses(t *testing.T) {
	s := start(t)
	for name, tc := range map[string]struct {
		reason, model string
		fs            fstest.MapFS
		want          string
	}{
		"Empty": {reason: "a wrong folder is noticed", model: "coolant", fs: fstest.MapFS{"README.md": {}}, want: "folders named for versions"},
		"Name":  {reason: "a name is one part of a key", model: "a/b", fs: fstest.MapFS{"v1/model.json": {}}, want: `"a/b"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.PutModels(t.Context(), tc.model, tc.fs)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want an error with %q", tc.reason, err, tc.want)
			}
		})
	}
}

func TestRedis(t *testing.T) {
	s := start(t)
	c := redis.NewClient(&redis.Options{
		Addr:                     s.RedisAddr(),
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer c.Close()
	id, err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: "log", MaxLen: 10, Approx: true, Values: map[string]any{"vehicle": "a"}}).Result()
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.XRange(t.Context(), "log", "-", "+").Result()
	if err != nil || len(got) != 1 || got[0].ID != id || got[0].Values["vehicle"] != "a" {
		t.Errorf("stream: got %v, error %v; want entry %s", got, err, id)
	}
	if err := c.Set(t.Context(), "seen", "1", 20*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		n, err := c.Exists(ctx, "seen").Result()
		if err != nil {
			t.Fatalf("waiting for a key to expire: %v", err)
		}
		if n == 0 {
			return
		}
	}
}

func TestStart(t *testing.T) {
	first := start(t)
	for name, tc := range map[string]struct {
		o    store.Options
		want string
	}{
		"Open":       {o: store.Options{S3Listen: "0.0.0.0:0"}, want: "loopback"},
		"TakenRedis": {o: store.Options{RedisListen: first.RedisAddr()}, want: "listening for Redis"},
		"TakenS3":    {o: store.Options{S3Listen: first.S3Addr()}, want: "listening for S3"},
		"NoPort":     {o: store.Options{RedisListen: "127.0.0.1"}, want: "missing port"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Start(t.Context(), tc.o)
			if err == nil {
				_ = s.Stop()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(); err != nil {
		t.Errorf("stopping again: %v", err)
	}
}
