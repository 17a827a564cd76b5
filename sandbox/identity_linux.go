package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	// dedicatedID is the host's uid and gid of sandboxes of a root caller whose
	// workspace has no unprivileged owner: outside of every range that
	// distributions, systemd or subordinate ids use.
	dedicatedID = 1_900_000_000
	overflowID  = 65534
)

// spareID returns an unprivileged id that exists here; in a container's user
// namespace not all do.
func spareID() (uint32, error) {
	if os.Geteuid() != 0 {
		return dedicatedID, nil // not used
	}
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return 0, &ErrSetup{"find an unprivileged uid", "/proc/self/uid_map", err}
	}
	g, err := os.ReadFile("/proc/self/gid_map")
	if err != nil {
		return 0, &ErrSetup{"find an unprivileged gid", "/proc/self/gid_map", err}
	}
	for _, id := range []uint32{dedicatedID, overflowID - 1} {
		if mapped(string(m), id) && mapped(string(g), id) {
			return id, nil
		}
	}
	return 0, &ErrUserNamespace{
		Reason: "the caller is root of a user namespace that has no other user",
		Remedy: "run as an ordinary user, or map a range of ids (/etc/subuid)",
		Err:    errors.ErrUnsupported,
	}
}

// mapped says whether a user namespace's map has an id inside.
func mapped(table string, id uint32) bool {
	for line := range strings.Lines(table) {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err != nil {
			continue
		}
		if uint64(id) >= inside && uint64(id) < inside+count {
			return true
		}
	}
	return false
}
