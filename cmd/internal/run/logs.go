package run

import (
	"flag"
	"fmt"
	"io"
	"log/slog"

	"github.com/go-logr/logr"
)

// LogOptions choose what is logged and how.
type LogOptions struct {
	// Format is "json" or "text".
	Format string
	// Level is "debug", "info", "warn" or "error".
	Level string
}

// Bind declares the flags --log-format and --log-level with the present values as defaults.
func (o *LogOptions) Bind(fs *flag.FlagSet) {
	fs.StringVar(&o.Format, "log-format", o.Format, "json or text")
	fs.StringVar(&o.Level, "log-level", o.Level, "debug, info, warn or error")
}

// NewLogger returns a logger that writes to w.
func NewLogger(w io.Writer, o LogOptions) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.Level)); err != nil {
		return nil, fmt.Errorf("parsing log level %q: want debug, info, warn or error", o.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch o.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return nil, fmt.Errorf("parsing log format %q: want json or text", o.Format)
}

// Logr returns a logger for libraries that speak logr, such as controller-runtime, on the same handler.
func Logr(l *slog.Logger) logr.Logger {
	return logr.FromSlogHandler(l.Handler())
}
