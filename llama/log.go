package llama

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// SetLogger sends llama.cpp's log to l, at the levels that l has enabled now; nil, as in the beginning, silences it. There is
// one log per process, because llama.cpp has one. A handler that panics loses the line.
//
// C: llama_log_set
func SetLogger(l *slog.Logger) {
	if l == nil {
		native.SetLog(0, nil)
		return
	}
	level, found := 5, false
	for i, s := range slogLevels {
		if i > 0 && !found && l.Enabled(context.Background(), s) {
			level, found = i, true
		}
	}
	if !found {
		native.SetLog(0, nil)
		return
	}
	lines := &logLines{logger: l}
	native.SetLog(level, lines.add)
}

// slogLevels are slog's levels by ggml_log_level.
var slogLevels = [...]slog.Level{slog.LevelDebug, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

// logLines joins the parts in which llama.cpp writes its lines.
type logLines struct {
	logger *slog.Logger

	mu    sync.Mutex
	part  strings.Builder
	level int
}

func (l *logLines) add(level int, text string) {
	for _, r := range l.split(level, text) { // without the lock: a handler may call this package
		l.logger.Log(context.Background(), r.level, r.line, "source", "llama.cpp")
	}
}

type logLine struct {
	level slog.Level
	line  string
}

// split gives the lines that text completes.
func (l *logLines) split(level int, text string) (done []logLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := func() {
		line := strings.TrimRight(l.part.String(), " \r.")
		l.part.Reset()
		if line != "" && l.level < len(slogLevels) {
			done = append(done, logLine{slogLevels[l.level], line})
		}
	}
	if level > 0 { // not a continuation
		end()
		l.level = level
	}
	for {
		line, rest, ended := strings.Cut(text, "\n")
		l.part.WriteString(line)
		if !ended {
			return done
		}
		end()
		text = rest
	}
}
