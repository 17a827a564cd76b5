package sandbox

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// noNamespaces is a container with Docker's filter: clone3 unknown, no new user namespace.
const noNamespaces = "clone3=ENOSYS clone&0x10000000=EPERM unshare=EPERM"

func TestBare(t *testing.T) {
	o := turned(t, nil, knob{Refuse: noNamespaces, MinLevel: LevelLandlock, Command: "id; pwd; echo $HOME; ls -la . /workspace; touch a && ls; echo $TMPDIR; ls /; cat /etc/passwd | head -1; ls /root; ls /proc; cat /proc/self/status | head -2; cat <(echo subst)"})
	require.Empty(t, o.Err)
	t.Logf("%s\n%s", o.Result.Stdout, o.Result.Stderr)
}
