package sandbox

import (
	"fmt"
	"strings"
)

const (
	// maxString is the kernel's bound of one argument or variable, its NUL
	// included (MAX_ARG_STRLEN).
	maxString = 128<<10 - 1
	// maxStrings keeps all of them below a quarter of the usual stack limit.
	maxStrings = 1 << 20
	maxVector  = 4000
)

func checkCommand(command string) error {
	switch {
	case strings.TrimSpace(command) == "":
		return &ErrConfig{"command", "empty"}
	case strings.Contains(command, "\x00"):
		return &ErrConfig{"command", "contains a NUL byte"}
	case len(command) > maxString:
		return &ErrConfig{"command", fmt.Sprintf("%d bytes, the kernel takes %d in one argument; "+
			"put it into a file of the workspace or give it as Stdin of 'bash -s'", len(command), maxString)}
	}
	return nil
}

func checkArgv(argv []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return &ErrConfig{"argv", "empty"}
	}
	if len(argv) > maxVector {
		return &ErrConfig{"argv", fmt.Sprintf("more than %d arguments", maxVector)}
	}
	total := 0
	for _, a := range argv {
		if strings.Contains(a, "\x00") {
			return &ErrConfig{"argv", "contains a NUL byte"}
		}
		if len(a) > maxString {
			return &ErrConfig{"argv", fmt.Sprintf("an argument of %d bytes, the kernel takes %d", len(a), maxString)}
		}
		total += len(a) + 1
	}
	if total > maxStrings {
		return &ErrConfig{"argv", fmt.Sprintf("%d bytes in all, more than %d", total, maxStrings)}
	}
	return nil
}
