package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func forked(t *testing.T, s *Session) *Session {
	t.Helper()
	n, err := s.Fork(background(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

const remember = `cd /tmp; mkdir -p sub/dir; cd sub; cd dir; umask 027
plain='a "b" $c
d'; export shown=yes; declare -r fixed=1; declare -i number=7; list=(a 'b c'); declare -A map=([k]='v w'); declare -n ref=plain
f() { echo "f $1 $plain"; }; g() { case $1 in @(a|b)) echo match;; esac; }; export -f f
alias hi='echo hi there'; set -- one 'two 2'; set -o pipefail; shopt -s extglob dotglob; unset LANG; IFS=:
echo text >file; ln -s /tmp/sub link; ln -s nowhere dangling; mkfifo pipe; chmod 640 file; echo home >~/h; echo shm >/dev/shm/s; echo work >/workspace/w; mkdir -m 710 ro; : >empty
echo hidden >.hidden; sleep 300 & (exit 7)`

const recall = `echo $? $PWD $OLDPWD $(umask) $# "$1" "$2"; echo "$plain" $shown $fixed $number "${list[1]}" "${map[k]}" "$ref" "${LANG-unset}" "$IFS"
f 1; bash -c 'f 2; echo $shown ${number-none}'; g a; eval hi; [[ -o pipefail ]] && shopt -q dotglob && echo options; [[ $- == *m* ]] && echo monitor
cat file ~/h /dev/shm/s /workspace/w .hidden; readlink link dangling; stat -c '%a %U' file ro empty; (fixed=2) 2>/dev/null || echo fixed`

func TestSessionFork(t *testing.T) {
	s := opened(t, Config{Env: map[string]string{"FROM": "config"}})
	do(t, s, "shopt -s extglob") // for what is parsed next
	require.Equal(t, 7, do(t, s, remember).ExitCode)
	n := forked(t, s)
	want := do(t, s, recall)
	require.Contains(t, string(want.Stdout), "7 /tmp/sub/dir /tmp/sub 0027 2 one two 2\n", "the parent is as it was")
	got := do(t, n, recall)
	require.Equal(t, string(want.Stdout), string(got.Stdout))
	require.Equal(t, want.Dir, got.Dir)
	require.Equal(t, "1\n", says(t, s, "unset IFS; jobs | grep -c sleep"))
	require.Equal(t, "0\n", says(t, n, "unset IFS; jobs | wc -l"), "processes are not copied")
	require.Equal(t, 1, do(t, n, "test -e pipe").ExitCode)
	// Each goes its own way.
	do(t, n, "plain=changed; echo more >>file; rm /workspace/w")
	require.Equal(t, "text\nwork\n", says(t, s, "cat file /workspace/w; [[ $plain != changed ]]"))
	require.NoError(t, s.Close())
	again := forked(t, n)
	require.Equal(t, "changed\ntext\nmore\nconfig\n", says(t, again, "echo $plain; cat file; echo $FROM"))
}

// A shell with settings that would end or spoil another one while it is restored.
func TestSessionForkSpoilt(t *testing.T) {
	for _, command := range []string{
		"set -eu", "set -x", "set -o posix", "set -f", "set +m; set -e; ! true", "PS1= PS4='$(exit 3)'", "trap 'echo debug' DEBUG", "IFS=abcdefgh", "shopt -s extdebug failglob",
		"echo() { :; }; alias for=false while=false", "mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone", "x=$'\\x01\\xff\\e[31m'", "readonly HOME", "exec 1>&-", "stty raw",
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			s := opened(t, Config{})
			do(t, s, command+"; mark=set")
			n := forked(t, s)
			for _, shell := range []*Session{s, n} {
				require.Contains(t, string(do(t, shell, `\builtin echo "alive $mark"`).Stdout), "alive set\n")
			}
		})
	}
}

func TestSessionForkWorkspace(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Workspace: dir})
	do(t, s, "echo one >file")
	n := forked(t, s)
	do(t, n, "echo two >file")
	require.Equal(t, "two\n", says(t, s, "cat file"), "a directory of the host is the same for both")

	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "file"), []byte("base\n"), 0o666))
	o, err := NewOverlay(base, OverlayOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	s, err = NewSession(background(t), Config{Overlay: o})
	require.NoError(t, err)
	defer s.Close()
	require.Same(t, o, s.Overlay())
	do(t, s, "echo one >new")
	n, err = s.Fork(background(t))
	require.NoError(t, err)
	do(t, n, "echo two >>new; echo other >file")
	require.Equal(t, "one\nbase\n", says(t, s, "cat new file"))
	require.Equal(t, "one\ntwo\nother\n", says(t, n, "cat new file"))
	require.NoError(t, n.Close())
	require.NoError(t, n.Overlay().Close())
	require.NoError(t, s.Close())
}

func TestSessionForkFails(t *testing.T) {
	s := opened(t, Config{})
	before := countFiles(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Fork(ctx)
	require.ErrorIs(t, err, context.Canceled)
	for _, after := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		if n, err := s.Fork(ctx); err == nil {
			require.NoError(t, n.Close())
		}
		cancel()
	}
	require.Equal(t, "alive\n", says(t, s, "echo alive"))
	do(t, s, "unset -f __lm_state")
	_, err = s.Fork(background(t))
	var setup *ErrSetup
	require.ErrorAs(t, err, &setup)
	require.Eventually(t, func() bool { return countFiles(t) <= before }, patience, time.Millisecond)
	require.NoError(t, s.Close())
	_, err = s.Fork(background(t))
	require.ErrorIs(t, err, ErrClosed)
}
