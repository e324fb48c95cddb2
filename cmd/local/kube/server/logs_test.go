package server

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
)

func TestLogsReachSlog(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		level  slog.Level
		log    func(h slog.Handler)
		want   string // "" is nothing
	}{
		"LibraryErrorIsDebug": {
			reason: "the library's errors are mostly retries", level: slog.LevelDebug,
			log:  func(h slog.Handler) { logr.FromSlogHandler(demoted{h}).Error(errors.New("eof"), "Connection closed") },
			want: `level=DEBUG msg="Connection closed" err=eof`,
		},
		"LibraryIsQuiet": {
			reason: "at info level nothing of it is seen", level: slog.LevelInfo,
			log: func(h slog.Handler) { logr.FromSlogHandler(demoted{h}).Error(nil, "Connection closed") },
		},
		"EtcdWarning": {
			reason: "etcd's warnings are seen, with their fields", level: slog.LevelInfo,
			log: func(h slog.Handler) {
				newZapLogger(slog.New(h)).With(zap.String("member", "a")).Warn("slow apply", zap.Int("took", 3))
			},
			want: `level=WARN msg="Etcd logged" member=a took=3 entry="slow apply"`,
		},
		"EtcdInfo": {
			reason: "what is below a warning is dropped", level: slog.LevelDebug,
			log: func(h slog.Handler) { newZapLogger(slog.New(h)).Info("elected") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			tc.log(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: tc.level}))
			if got := out.String(); !strings.Contains(got, tc.want) || (tc.want == "" && got != "") {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}
