package rootfs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/stretchr/testify/require"
)

func TestPlan(t *testing.T) {
	tree := Tree{Workspace: "/srv/ws", Binds: []Bind{
		{Source: "/srv/data", Target: "/data/deep"}, {Source: "/srv/out", Target: "/out", Writable: true},
		{Source: "/srv/file", Target: "/file", File: true},
	}}
	ops, err := tree.Plan()
	require.NoError(t, err)
	made := map[string]bool{"": true, ".": true}
	var writable []string
	for _, o := range ops {
		require.False(t, strings.HasPrefix(o.Path, "/"), o.Path)
		require.Equal(t, filepath.Clean(o.Path), o.Path)
		require.True(t, made[filepath.Dir(o.Path)] || o.Flags&proto.BindExisting != 0, "%s has no directory", o.Path)
		made[o.Path] = true
		if o.Kind == proto.OpBind && o.Flags&(proto.BindReadOnly|proto.BindInside) == 0 {
			writable = append(writable, o.Source)
		}
		for _, secret := range []string{"shadow", "/root", "/home", "/var", "/etc/ssl/private", "/run/", "/sys/"} {
			if o.Kind == proto.OpBind {
				require.NotContains(t, o.Source, secret)
			}
		}
	}
	require.Equal(t, []string{"/srv/ws", "/srv/out"}, writable, "nothing else of the host can be written")
	require.True(t, made["data"] && made["data/deep"])
}

func TestPlanOfRoot(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"etc/ssl", "usr/bin", "proc", "home/me", "var/lib"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	require.NoError(t, os.Symlink("usr/bin", filepath.Join(root, "bin")))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/passwd"), nil, 0o644))
	ops, err := Tree{Root: root}.Plan()
	require.NoError(t, err)
	sources := map[string]string{}
	for _, o := range ops {
		if _, twice := sources[o.Path]; twice && o.Kind != proto.OpDir && o.Flags&(proto.BindInside|proto.BindExisting) == 0 {
			t.Errorf("%s is made twice", o.Path)
		}
		sources[o.Path] = o.Source
	}
	require.Equal(t, "usr/bin", sources["bin"])
	require.Equal(t, filepath.Join(root, "usr"), sources["usr"])
	require.Equal(t, filepath.Join(root, "etc/ssl"), sources["etc/ssl"])
	require.Contains(t, sources["etc/passwd"], "user:x:1000")
	require.NotContains(t, sources, "home/me")

	_, err = Tree{Root: filepath.Join(root, "none")}.Plan()
	require.ErrorIs(t, err, os.ErrNotExist)
}

// What Docker hides of /proc and keeps from being written in a container without
// privileges (moby, oci/defaults.go, DefaultLinuxSpec; /sys is not there at all):
// none of it is open here.
func TestNoWiderThanDocker(t *testing.T) {
	masked := strings.Fields("acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats")
	readOnly := strings.Fields("bus fs irq sys sysrq-trigger")
	for _, name := range append(masked, readOnly...) {
		require.NotContains(t, openProc, name)
	}

	ops, err := Tree{}.Plan()
	require.NoError(t, err)
	over := map[string]proto.OpFlag{}
	for _, o := range ops {
		over[o.Path] = o.Flags
	}
	for _, name := range append(masked, readOnly...) {
		if st, err := os.Stat("/proc/" + name); err == nil && st.Mode().Perm()&0o077 != 0 || name == "sysrq-trigger" {
			require.NotZero(t, over["proc/"+name]&proto.BindReadOnly, name)
		}
	}
}

// docs/sandbox-policy.md names what is done to /proc.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../../docs/sandbox-policy.md")
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(b), "<!-- open -->")
	require.True(t, ok)
	text, _, _ = strings.Cut(text, "<!-- -->")
	require.Equal(t, slices.Sorted(maps.Keys(openProc)), strings.Fields(strings.ReplaceAll(text, "`", " ")))
	for _, name := range readOnlyProc {
		require.Contains(t, string(b), "`/proc/"+name+"`")
	}
}
