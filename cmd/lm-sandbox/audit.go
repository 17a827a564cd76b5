package main

import (
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func registerAudit(fs *pflag.FlagSet, path *string) {
	fs.StringVar(path, "audit", "", "`file` to which one line of JSON is appended for each command, refused ones included")
}

// openAudit opens the file that --audit names, and returns what closes it.
func openAudit(path string) (slog.Handler, func() error, error) {
	if path == "" {
		return nil, func() error { return nil }, nil
	}
	f, err := sandbox.OpenAuditFile(path)
	if err != nil {
		return nil, nil, &failure{code: exitSandbox, err: err, hint: "check --audit"}
	}
	return f, f.Close, nil
}
