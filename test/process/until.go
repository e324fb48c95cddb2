package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"
)

// Until asks again and again until the answer is nil. Other processes cannot be waited for in another way. One question
// may take the time of Answering; when patience ends, the last complaint that an answer gave is shown.
func Until(tb testing.TB, what string, ask func(ctx context.Context) error) {
	tb.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := once(tb.Context(), ask)
		switch {
		case err == nil:
			return
		case time.Since(began) > patience:
			tb.Fatalf("waiting %s for %s: %v", patience, what, err)
		}
		<-tick.C
	}
}

// once asks one question.
func once(ctx context.Context, ask func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, Answering)
	defer cancel()
	return ask(ctx)
}

// Answers asks a URL, for Until: anything but 200 is an error.
func Answers(url string) func(context.Context) error { return AnswersTo(http.DefaultClient, url) }

// AnswersTo is Answers by another client.
func AnswersTo(c *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := c.Do(req)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK {
			err = fmt.Errorf("asking %s: answered %s", url, res.Status)
		}
		return errors.Join(err, res.Body.Close())
	}
}

// FreeAddr is a loopback address that nothing listens on. Its port lies below those that Linux gives to outgoing
// connections: one of these could take it before the program does that it is for.
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))) //nolint:noctx,gosec // it is closed at once; any port will do
		if err != nil {
			continue // somebody is there
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			tb.Fatal(err)
		}
		return addr
	}
	tb.Fatal("finding a free port: of 100 none was")
	return ""
}
