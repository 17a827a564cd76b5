// Command gen writes the system call filters that package seccomp embeds.
package main

import (
	"fmt"
	"os"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/seccomp/policy"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	for _, goarch := range []string{"amd64", "arm64"} {
		for _, p := range policy.Profiles {
			program, err := p.Program(goarch)
			if err != nil {
				return err
			}
			if err := os.WriteFile(p.File(goarch), policy.Encode(program), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
