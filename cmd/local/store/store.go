// Package store runs stand-ins for Redis and for S3 inside the process, both by their real protocols and on loopback, so
// that ingest and serving speak to them exactly as they would to the real ones. What is stored lives in memory and ends
// with the process.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/siskin-dev/siskin/cmd/internal/run"
)

const (
	// Bucket holds the models.
	Bucket = "models"
	// AccessKey and SecretKey are what clients give. The stand-in accepts any; real clients refuse to sign with none.
	AccessKey = "siskin"
	// SecretKey goes with AccessKey.
	SecretKey = "siskin-local"

	// drainTimeout bounds how long Stop waits for downloads in flight.
	drainTimeout = 2 * time.Second
)

// Options configure the stand-ins. The zero value will do.
type Options struct {
	// RedisListen and S3Listen are loopback addresses. "" is "127.0.0.1:0", any free port.
	RedisListen, S3Listen string
	// Logger gets a server's untimely end. Nil discards it.
	Logger *slog.Logger
}

// Server is a running pair of stand-ins. Its methods may be called from any goroutine.
type Server struct {
	redis  *miniredis.Miniredis
	s3     *http.Server
	s3Addr string
	client *minio.Client
	ended  sync.WaitGroup
	stop   func() error
}

// Start runs both servers and creates the bucket of models.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, addr := range []*string{&o.RedisListen, &o.S3Listen} {
		if *addr == "" {
			*addr = "127.0.0.1:0"
		}
		if err := checkLoopback(*addr); err != nil {
			return nil, err
		}
	}
	s := &Server{redis: miniredis.NewMiniRedis()}
	s.stop = sync.OnceValue(s.close)
	s.redis.ClockTTL(true) // keys expire by the clock; in tests, which it was made for, time stands still
	if err := s.redis.StartAddr(o.RedisListen); err != nil {
		return nil, fmt.Errorf("listening for Redis on %q: %w", o.RedisListen, err)
	}
	if err := s.startS3(ctx, o); err != nil {
		s.redis.Close()
		return nil, err
	}
	if err := s.client.MakeBucket(ctx, Bucket, minio.MakeBucketOptions{}); err != nil {
		return nil, errors.Join(fmt.Errorf("creating bucket %q: %w", Bucket, err), s.Stop())
	}
	return s, nil
}

func (s *Server) startS3(ctx context.Context, o Options) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.S3Listen)
	if err != nil {
		return fmt.Errorf("listening for S3: %w", err)
	}
	s.s3Addr = l.Addr().String()
	s.client, err = minio.New(s.s3Addr, &minio.Options{Creds: credentials.NewStaticV4(AccessKey, SecretKey, "")})
	if err != nil {
		return errors.Join(fmt.Errorf("building S3 client: %w", err), l.Close())
	}
	s.s3 = run.NewServer(gofakes3.New(s3mem.New()).Server())
	s.ended.Go(func() {
		if err := s.s3.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			o.Logger.Error("S3 stand-in ended", "error", err)
		}
	})
	return nil
}

// RedisAddr returns the host and port of Redis, for go-redis' Options.Addr. It needs no password.
func (s *Server) RedisAddr() string { return s.redis.Addr() }

// S3Addr returns the host and port of S3, for minio.New. It speaks plain HTTP; see AccessKey and SecretKey.
func (s *Server) S3Addr() string { return s.s3Addr }

// PutModels uploads every file <version>/<file> of a folder, at whatever depth below the version, to the key
// <model>/<version>/<file> of the bucket of models, and returns the keys in order. A file beside the versions, such
// as a README, is left out. A folder without any version is an error, and so is an empty file: the stand-in refuses it.
func (s *Server) PutModels(ctx context.Context, model string, versions fs.FS) ([]string, error) {
	if model == "" || strings.Contains(model, "/") {
		return nil, fmt.Errorf("uploading model %q: want a name without a slash", model)
	}
	var keys []string
	err := fs.WalkDir(versions, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(name, "/") {
			return err
		}
		key := path.Join(model, name)
		if err := s.put(ctx, versions, name, key); err != nil {
			return fmt.Errorf("writing %q: %w", key, err)
		}
		keys = append(keys, key)
		return nil
	})
	if err == nil && len(keys) == 0 {
		err = errors.New("want folders named for versions, got none with a file")
	}
	if err != nil {
		return nil, fmt.Errorf("uploading model %q: %w", model, err)
	}
	return keys, nil
}

func (s *Server) put(ctx context.Context, models fs.FS, name, key string) error {
	f, err := models.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = s.client.PutObject(ctx, Bucket, key, f, info.Size(), minio.PutObjectOptions{
		ContentType: "application/octet-stream",
		// The stand-in takes the chunk signatures of a part for content and would store more than was sent.
		DisableMultipart: true,
	})
	return err
}

// Stop ends both servers. It may be called more than once.
func (s *Server) Stop() error { return s.stop() }

func (s *Server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	err := s.s3.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stopping S3: %w", err), s.s3.Close())
	}
	s.redis.Close()
	s.ended.Wait()
	return err
}

func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("parsing listen address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("checking listen address %q: want a loopback address such as 127.0.0.1:0", addr)
	}
	return nil
}
