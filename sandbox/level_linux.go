package sandbox

import "github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"

// lacks are the lines of Result.Lacks, in the order of the helper's bits.
var lacks = []struct {
	bit  proto.Lack
	line string
}{
	{proto.LackLandlock, "landlock: files are guarded by mounts alone, and the tree may signal the sandbox's pid 1"},
	{proto.LackTruncate, "landlock truncate: what is read-only is kept from truncation by mounts alone"},
	{proto.LackIoctl, "landlock ioctl: requests to the sandbox's device nodes are bounded by the system call filter alone"},
	{proto.LackScopes, "landlock scopes: the tree may signal the sandbox's pid 1"},
}

func lacking(set proto.Lack) []string {
	var out []string
	for _, l := range lacks {
		if set&l.bit != 0 {
			out = append(out, l.line)
		}
	}
	return out
}
