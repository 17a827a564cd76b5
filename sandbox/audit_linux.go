package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

var helperSum = sync.OnceValue(func() string { return sum(helper.Binary()) })

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// policyHash names the rules of a sandbox: the same for the same Config on the same
// host and release, and another where any rule differs. docs/audit.md says what
// is in it. What differs from run to run by its nature is not: the command, the
// values of variables, streams, and where on the host the workspace is.
func (c *Config) policyHash(r *proto.Request, limits Limits) string {
	if c.Audit == nil {
		return ""
	}
	helper := helperSum()
	if c.HelperPath != "" {
		helper = c.HelperPath
	}
	lines := []string{
		"version 1", "helper " + helper, "filter " + sum(r.Filter),
		fmt.Sprintf("user %d %d %q", r.UID, r.GID, r.Hostname),
		fmt.Sprintf("tmpfs %s %s", r.TmpfsSize, r.TmpfsInodes),
		fmt.Sprintf("limits %+v stop %t", limits, c.StopAtOutput),
		fmt.Sprintf("net %d", c.Net), fmt.Sprintf("level %d", c.MinLevel), fmt.Sprintf("protect %q", c.Protect),
	}
	if c.Net == NetAllowList {
		a := c.Allow
		lines = append(lines, fmt.Sprintf("allow %q %v %d %d %d %t resolve %t dial %t", a.Rules, a.Private, a.MaxConns, a.MaxBytes, a.IdleTimeout,
			a.VerifySNI, a.Resolve != nil, a.Dial != nil))
	}
	for _, o := range r.Ops {
		source := fmt.Sprintf("%q", o.Source)
		switch {
		case strings.HasPrefix(o.Path, "workspace/"): // of Protect, as far as it is there
			continue
		case o.Kind == proto.OpFile:
			source = sum([]byte(o.Source))
		case o.Flags&proto.BindOwner != 0, o.Path == proto.OverlayDir+"/data":
			source = "the workspace"
		}
		lines = append(lines, fmt.Sprintf("op %d %d %o %q %s", o.Kind, o.Flags, o.Mode, o.Path, source))
	}
	for _, l := range r.Limits {
		lines = append(lines, fmt.Sprintf("rlimit %d %d", l.Resource, l.Value))
	}
	slices.Sort(lines) // files are planned in no certain order, and no two steps have one path
	return sum([]byte(strings.Join(lines, "\n")))
}
