package engine

import (
	"slices"
	"strings"
)

// waitingEnv makes OpenMP's threads of a new process look for work 4000
// times before they sleep, where the user has not said otherwise. On a quiet
// machine that is as fast as OpenMP's default of 300,000; on a busy one it is ten
// times faster, because nobody spins while the thread that all wait for has no
// core. It is read before a program's first line, so that no program can set it
// for itself.
func waitingEnv(env []string) []string {
	said := slices.ContainsFunc(env, func(v string) bool {
		return strings.HasPrefix(v, "GOMP_SPINCOUNT=") || strings.HasPrefix(v, "OMP_WAIT_POLICY=")
	})
	if said {
		return env
	}
	return append(env, "GOMP_SPINCOUNT=4000")
}
