package main

import (
	"fmt"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// leastLevel is a flag value: the weakest level that will do.
type leastLevel struct {
	level  sandbox.Level
	orNone bool // "none" will do too
}

// names are the levels that can be asked for, the weakest first.
func (l *leastLevel) names() []string {
	var names []string
	for level := sandbox.Level(0); level <= sandbox.LevelCgroup; level++ {
		var known sandbox.Level
		if known.UnmarshalText([]byte(level.String())) == nil && !strings.Contains(level.String(), "(") && (level > 0 || l.orNone) {
			names = append(names, level.String())
		}
	}
	return names
}

func (l *leastLevel) usage() string {
	text := "weakest isolation of commands: " + strings.Join(l.names(), ", ")
	if l.orNone {
		text += "; none goes on without commands where the host allows no sandbox"
	}
	return text
}

// Set parses s.
func (l *leastLevel) Set(s string) error {
	for _, name := range l.names() {
		if s == name {
			return l.level.UnmarshalText([]byte(s))
		}
	}
	return fmt.Errorf("%q is none of %s", s, strings.Join(l.names(), ", "))
}

func (l *leastLevel) String() string { return l.level.String() }

// Type names the value in help texts.
func (l *leastLevel) Type() string { return "level" }
