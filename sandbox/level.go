package sandbox

import "fmt"

// Level is how strongly a command is isolated. A higher one includes the lower.
type Level int

const (
	// LevelLandlock is for hosts that refuse user namespaces: Landlock (ABI 6, Linux 6.12)
	// for files and signals, a system call filter without sockets, rlimits. What it
	// lacks is in Result.Lacks; it must be asked for by Config.MinLevel. Root,
	// sessions and whatever else needs namespaces are refused with [ErrLevel].
	LevelLandlock Level = 1
	// LevelNamespaces is eight namespaces, an own root, no capability, a system
	// call filter; limits by rlimits and by pid 1's watch.
	LevelNamespaces Level = 2
	// LevelCgroup has the limits of memory, pids and processor time kept by a
	// control group besides, v1 or v2. It is used wherever the caller may make one.
	LevelCgroup Level = 3
)

func (l Level) String() string {
	switch l {
	case 0:
		return "none"
	case LevelLandlock:
		return "landlock"
	case LevelNamespaces:
		return "namespaces"
	case LevelCgroup:
		return "cgroup"
	}
	return fmt.Sprintf("level(%d)", int(l))
}

// MarshalText gives the level its name in JSON.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads such a name.
func (l *Level) UnmarshalText(text []byte) error {
	for v := Level(0); v <= LevelCgroup; v++ {
		if v.String() == string(text) {
			*l = v
			return nil
		}
	}
	return fmt.Errorf("sandbox: no level %.32q", text)
}
