package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

const bashName = "bash"

// shell is what the bash tool needs of a [sandbox.Session].
type shell interface {
	Exec(ctx context.Context, command string) (sandbox.ExecResult, error)
}

// Bash is the tool that runs commands in s, with nothing on their stdin: nobody is there
// to type on the session's terminal. With it a session can outlive a run: set
// Config.NoBash.
func Bash(s *sandbox.Session) Tool { return bash(s) }

type bashCall struct {
	Command string `json:"command" jsonschema:"the command"`
}

func bashArguments(command string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)          // for the model to read: "<" stays "<"
	_ = e.Encode(bashCall{command}) // of a string: cannot fail
	return strings.TrimSpace(b.String())
}

func bash(s shell) Tool {
	return Func(bashName, "Run a command in bash and get its output.", func(ctx context.Context, c bashCall) (string, error) {
		result, err := s.Exec(ctx, "eval -- "+quote(c.Command)+" </dev/null")
		var config *sandbox.ErrConfig
		switch {
		case errors.As(err, &config): // the command itself cannot be one
			return "", err
		case err != nil:
			return "", Fatal(err)
		}
		return output(result), nil
	})
}

// quote makes one word of text for the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// output is what the model is shown of a command: text, without what acts on a terminal.
func output(r sandbox.ExecResult) string {
	var b strings.Builder
	for _, stream := range []struct {
		text []byte
		cut  bool
	}{{r.Stdout, r.StdoutTruncated}, {r.Stderr, r.StderrTruncated}} {
		text := sandbox.Plain(stream.text)
		if b.Len() > 0 && text != "" && !strings.HasSuffix(b.String(), "\n") {
			b.WriteByte('\n')
		}
		b.WriteString(text)
		if stream.cut {
			b.WriteString("\n[more was not kept]")
		}
	}
	text := strings.TrimRight(b.String(), "\n")
	switch {
	case r.Limit != sandbox.LimitNone:
		text += fmt.Sprintf("\n[stopped, limit: %s]", r.Limit)
	case r.ExitCode != 0:
		text += fmt.Sprintf("\n[exit code %d]", r.ExitCode)
	case text == "":
		text = "[no output, exit code 0]"
	}
	return strings.TrimPrefix(text, "\n")
}
