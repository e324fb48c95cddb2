package server

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// RouteLogs sends what the API server library logs through klog to h, at debug level: it reports every retry and every
// connection closed at shutdown as an error. The library's logger belongs to the process and must not be replaced while
// a server runs, so call it once, before Start. Without it the library writes to standard error.
func RouteLogs(h slog.Handler) {
	klog.SetLogger(logr.FromSlogHandler(demoted{h}))
}

// demoted is a slog.Handler that passes everything on at debug level.
type demoted struct{ next slog.Handler }

func (d demoted) Enabled(ctx context.Context, _ slog.Level) bool {
	return d.next.Enabled(ctx, slog.LevelDebug)
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	if !d.Enabled(ctx, slog.LevelDebug) {
		return nil // logr hands errors over without asking
	}
	r.Level = slog.LevelDebug
	return d.next.Handle(ctx, r)
}

func (d demoted) WithAttrs(as []slog.Attr) slog.Handler { return demoted{d.next.WithAttrs(as)} }

func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.next.WithGroup(name)} }

// newZapLogger returns a logger for etcd whose warnings and errors reach log as warnings. What is below is dropped.
func newZapLogger(log *slog.Logger) *zap.Logger {
	return zap.New(&zapCore{log: log})
}

// zapCore writes zap's entries to slog.
type zapCore struct{ log *slog.Logger }

func (*zapCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{log: c.log.With(zapArgs(fields)...)}
}

func (c *zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, c)
}

func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Warn("Etcd logged", append(zapArgs(fields), slog.String("entry", e.Message))...)
	return nil
}

func (*zapCore) Sync() error { return nil }

func zapArgs(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	args := make([]any, 0, len(enc.Fields)+1)
	for k, v := range enc.Fields {
		args = append(args, slog.Any(k, v))
	}
	return args
}
