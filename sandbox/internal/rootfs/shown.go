package rootfs

import (
	"path/filepath"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

// shownProc are files of /proc that tell of the machine and of no process.
var shownProc = []string{"cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version", "sys/kernel/ngroups_max",
	"sys/kernel/osrelease", "sys/kernel/ostype", "sys/kernel/pid_max", "sys/vm/overcommit_memory"}

// shownEtc are files of /etc of which a sandbox with a tree of its own has others.
var shownEtc = []string{"group", "host.conf", "nsswitch.conf", "passwd"}

// Shown are the host's own paths that a sandbox without a tree of its own may
// read, and device nodes that it may use.
func Shown() []proto.Op {
	p := &plan{}
	read := func(name string) {
		source, err := filepath.EvalSymlinks("/" + name)
		if err == nil { // what is not there needs no rule
			p.bind(strings.TrimPrefix(source, "/"), source, proto.BindReadOnly)
		}
	}
	for _, d := range systemDirs {
		read(d)
	}
	for _, f := range shared {
		read("etc/" + f)
	}
	for _, f := range shownEtc {
		read("etc/" + f)
	}
	for _, f := range shownProc {
		read("proc/" + f)
	}
	for _, d := range deviceNodes {
		if d != "tty" {
			p.bind("dev/"+d, "/dev/"+d, proto.BindDevice)
		}
	}
	return p.ops
}
