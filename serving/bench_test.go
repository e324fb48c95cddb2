package serving

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// batch is a request body of rows with twelve features.
func batch(rows int) string {
	row := "433.4,1187.5,24,20,41.1765,41,45,17,337.3,13.73,-0.7812,null"
	return body1(fmt.Sprintf("[%d,12]", rows), "["+strings.TrimSuffix(strings.Repeat(row+",", rows), ",")+"]")
}

func wideModel() fakeModel {
	m := constant(86.66312)
	m.spec.Features = strings.Split(strings.Repeat("f", 12), "")
	return m
}

func BenchmarkDecode(b *testing.B) {
	for _, rows := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			body := []byte(batch(rows))
			var req request
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := decodeRequest(body, 12, &req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInfer measures the handler without the network.
func BenchmarkInfer(b *testing.B) {
	repo, _ := newFake(map[string]fakeStored{"m/1": {model: wideModel()}})
	if err := repo.Load(b.Context(), "m", "1"); err != nil {
		b.Fatal(err)
	}
	for reason, clock := range map[string]func() time.Duration{"thread clock": nil, "no clock": func() time.Duration { return 0 }} {
		h := NewHandler(repo, HandlerOptions{CPUTime: clock})
		b.Run(reason, func(b *testing.B) {
			body := strings.NewReader(batch(1))
			r := httptest.NewRequest(http.MethodPost, "/v2/models/m/infer", body)
			w := &nullWriter{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = body.Seek(0, 0)
				h.ServeHTTP(w, r)
			}
			if w.code != http.StatusOK {
				b.Fatalf("status %d", w.code)
			}
		})
	}
}

type nullWriter struct {
	header http.Header
	code   int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *nullWriter) WriteHeader(code int)        { w.code = code }

// BenchmarkHTTP measures requests over loopback, client and server in one process.
func BenchmarkHTTP(b *testing.B) {
	repo, _ := newFake(map[string]fakeStored{"m/1": {model: wideModel()}})
	if err := repo.Load(b.Context(), "m", "1"); err != nil {
		b.Fatal(err)
	}
	s := httptest.NewServer(NewHandler(repo, HandlerOptions{}))
	defer s.Close()
	body := batch(1)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			resp, err := s.Client().Post(s.URL+"/v2/models/m/infer", "application/json", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body) // or the connection would not be used again
			_ = resp.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// TestDecodeAllocatesNothing: a request whose slices are warm is decoded without the heap.
func TestDecodeAllocatesNothing(t *testing.T) {
	body := []byte(batch(8))
	var req request
	if n := testing.AllocsPerRun(100, func() { _ = decodeRequest(body, 12, &req) }); n > 1 {
		t.Errorf("decoding allocates %v times, want at most once", n)
	}
}

// TestThreadCPUTime holds the clock to its meaning: it runs while this thread computes and stands while it waits.
func TestThreadCPUTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no thread clock on " + runtime.GOOS)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := ThreadCPUTime()
	for x, i := 1.0, 0; ThreadCPUTime()-start < 5*time.Millisecond; i++ {
		if x = x*1.0000001 + 1; i > 1e9 {
			t.Fatalf("the clock stood at %v through %v rounds (%v)", start, i, x)
		}
	}
	before := ThreadCPUTime()
	<-time.After(50 * time.Millisecond)
	if waited := ThreadCPUTime() - before; waited > 25*time.Millisecond {
		t.Errorf("%v of CPU time in 50 ms of waiting", waited)
	}
}
