package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/siskin-dev/siskin/serving"
)

// S3Options say how to reach an S3 service.
type S3Options struct {
	// Endpoint is host:port, or a URL whose scheme decides between http and https. Default: https to s3.amazonaws.com.
	Endpoint string
	// Region of the bucket. Default: us-east-1, which spares asking; stand-ins ignore it.
	Region string
	// AccessKey and SecretKey sign requests. Default: the anonymous user.
	AccessKey, SecretKey, SessionToken string
	// Timeout bounds one fetch and one question for the revision. Default: 60 s.
	Timeout time.Duration
	// MaxBytes bounds the files of one artefact together. Default: 1 GiB.
	MaxBytes int64
	// Transport carries the requests. Default: the client library's.
	Transport http.RoundTripper
}

// maxAttempts is how often one request to S3 is tried; the library's own 10 would hide an outage for minutes.
const maxAttempts = 3

// S3 fetches artefacts from a bucket. It implements serving.Source.
type S3 struct {
	options        S3Options
	client         *minio.Client
	bucket, prefix string
}

// NewS3 returns the source at "s3://bucket/prefix", in whose prefix {model} and {version} may stand. It does not connect.
func NewS3(location string, o S3Options) (*S3, error) {
	rest, ok := strings.CutPrefix(location, "s3://")
	bucket, prefix, _ := strings.Cut(rest, "/")
	if !ok || bucket == "" {
		return nil, fmt.Errorf("reading location %q: want s3://bucket/prefix", location)
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	host, secure := endpoint(o.Endpoint)
	client, err := minio.New(host, &minio.Options{
		Creds:      credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.SessionToken),
		Secure:     secure,
		Region:     o.Region,
		Transport:  o.Transport,
		MaxRetries: maxAttempts,
	})
	if err != nil {
		return nil, fmt.Errorf("reading endpoint %q: %w", o.Endpoint, err)
	}
	return &S3{options: o, client: client, bucket: bucket, prefix: prefix}, nil
}

func endpoint(s string) (host string, secure bool) {
	if s == "" {
		return "s3.amazonaws.com", true
	}
	if host, plain := strings.CutPrefix(s, "http://"); plain {
		return strings.TrimSuffix(host, "/"), false
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "https://"), "/"), true
}

// Fetch implements serving.Source. Each object is asked for with the ETag that the list gave, and the list is taken again
// at the end, so that files of two uploads never mix.
func (s *S3) Fetch(ctx context.Context, name, version string) (serving.Artefact, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	folder, entries, err := s.list(ctx, name, version)
	if err != nil {
		return serving.Artefact{}, err
	}
	before := revision(entries)
	files := make(map[string][]byte, len(entries))
	for _, e := range entries {
		if files[e.name], err = s.get(ctx, folder, e); err != nil {
			return serving.Artefact{}, fmt.Errorf("getting \"s3://%s/%s%s\": %w", s.bucket, folder, e.name, err)
		}
	}
	_, entries, err = s.list(ctx, name, version)
	if err != nil {
		return serving.Artefact{}, err
	}
	if revision(entries) != before {
		return serving.Artefact{}, fmt.Errorf("getting \"s3://%s/%s\": %w", s.bucket, folder, ErrChanged)
	}
	if err := checkSums(files); err != nil {
		return serving.Artefact{}, fmt.Errorf("getting \"s3://%s/%s\": %w", s.bucket, folder, err)
	}
	return serving.Artefact{Name: name, Version: version, Revision: before, Files: files}, nil
}

// Revision implements serving.Source: one list request.
func (s *S3) Revision(ctx context.Context, name, version string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	_, entries, err := s.list(ctx, name, version)
	return revision(entries), err
}

// list returns the objects directly in the folder. The prefix always ends with a slash: without it, v1 would find the
// objects of v10 too.
func (s *S3) list(ctx context.Context, name, version string) (string, []entry, error) {
	folder, err := expand(s.prefix, name, version)
	if err != nil {
		return "", nil, err
	}
	if folder != "" && !strings.HasSuffix(folder, "/") {
		folder += "/"
	}
	ctx, cancel := context.WithCancel(ctx) // ends the listing when this function leaves it early
	defer cancel()
	var entries []entry
	for o := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: folder}) {
		if o.Err != nil {
			return "", nil, fmt.Errorf("listing \"s3://%s/%s\": %w", s.bucket, folder, o.Err)
		}
		base := strings.TrimPrefix(o.Key, folder)
		if base == "" || strings.Contains(base, "/") {
			continue // the folder's own marker, or a folder in it
		}
		entries = append(entries, entry{base, o.ETag, o.Size})
		if len(entries) > maxFiles {
			break
		}
	}
	return folder, entries, checkEntries("s3://"+s.bucket+"/"+folder, entries, s.options.MaxBytes)
}

func (s *S3) get(ctx context.Context, folder string, e entry) ([]byte, error) {
	var opts minio.GetObjectOptions
	if err := opts.SetMatchETag(e.tag); err != nil {
		return nil, err
	}
	object, err := s.client.GetObject(ctx, s.bucket, folder+e.name, opts)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	data, err := io.ReadAll(io.LimitReader(object, e.size+1))
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode == http.StatusPreconditionFailed {
		return nil, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err == nil && int64(len(data)) != e.size {
		err = fmt.Errorf("%w: got %d bytes, want %d", ErrChanged, len(data), e.size)
	}
	return data, err
}
