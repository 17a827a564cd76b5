package sandbox

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Class E: the terminal.

func TestTerminalRequests(t *testing.T) {
	attempt(t, []attack{
		{79, "tiocsti", "EPERM", onHost, "ok|EIO"}, // EIO without sysctl dev.tty.legacy_tiocsti
		{79, "tiocsti-high", "EPERM", onHost, "ok|EIO"},
		{80, "tioclinux", "EPERM", onHost, "ENOTTY"},
		{80, "tioclinux-high", "EPERM", onHost, "ENOTTY"},
		{80, "tioccons", "EPERM", nowhere, ""}, // it would be done
		{80, "tiocsetd", "EPERM", onHost, "ok"},
		{80, "tiocsetd-high", "EPERM", onHost, "ok"},
		{80, "kdskbmode", "EPERM", onHost, "ENOTTY"},
		{80, "kdsetkeycode", "EPERM", onHost, "ENOTTY"},
		{80, "vt-activate", "EPERM", onHost, "ENOTTY"},
		{80, "vt-setmode", "EPERM", onHost, "ENOTTY"},
	})
	require.Equal(t, "ok", inside(t, Config{}, "tiocgwinsz"), "a pseudoterminal of its own works")
}

func TestNoTerminal(t *testing.T) { // 79: none of the caller's is there
	r := run(t, Config{}, "test -t 0 || test -t 1 || test -t 2 || echo none; echo x > /dev/tty")
	require.Equal(t, "none\n", string(r.Stdout))
	require.Contains(t, string(r.Stderr), "/dev/tty: No such device or address")
}
