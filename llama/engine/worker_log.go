package engine

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// workerLog takes the worker's stderr: its log lines go to the logger, and the last
// ones stay for its obituary.
type workerLog struct {
	logger *slog.Logger

	mu    sync.Mutex
	part  []byte
	lines []string
	crash int // lines since a crash began
}

const (
	mostLogLines = 20
	mostLogLine  = 4 << 10

	mostCrashLines = 4
)

// crash begins what Go's runtime says of one; after the reason come stacks and registers.
var crash = regexp.MustCompile(`^(SIG[A-Z0-9]+|panic|fatal error): `)

func (l *workerLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		i := slices.Index(l.part, '\n')
		if i < 0 && len(l.part) < mostLogLine {
			return len(p), nil
		}
		if i < 0 {
			i = len(l.part) - 1
		}
		l.line(strings.TrimRight(string(l.part[:i+1]), "\r\n"))
		l.part = slices.Delete(l.part, 0, i+1)
	}
}

func (l *workerLog) line(text string) {
	if l.crash > 0 || crash.MatchString(text) {
		l.crash++
	}
	if text == "" || l.crash > mostCrashLines {
		return
	}
	if l.lines = append(l.lines, text); len(l.lines) > mostLogLines {
		l.lines = slices.Delete(l.lines, 0, 1)
	}
	level := slog.LevelWarn // what is not ours was written by something that ends the process
	if rest, ok := strings.CutPrefix(text, "level="); ok {
		name, words, _ := strings.Cut(rest, " ")
		if level.UnmarshalText([]byte(name)) == nil {
			text = words
		}
	}
	l.logger.Log(context.Background(), level, "engine: worker", "says", text)
}

func (l *workerLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// logLevel is the lowest level that l takes, for those who write to it from afar.
func logLevel(ctx context.Context, l *slog.Logger) slog.Level {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if l.Enabled(ctx, level) {
			return level
		}
	}
	return slog.LevelError
}
