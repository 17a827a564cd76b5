// Package rootfs plans the file tree of a sandbox as steps for the helper.
package rootfs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

// Bind is a host path to be mounted at a target inside.
type Bind struct {
	Source, Target string
	Writable       bool
	File           bool // Source is no directory
}

// Tree says what the sandbox is to see.
type Tree struct {
	Root      string // "" = the host's own system directories
	Workspace string // "" = an empty one
	Changes   string // "" = in Workspace; else the directory for the upper layer of an overlay on it
	Protect   []Mount
	Binds     []Bind
	Devices   []string          // nodes of GPUs
	Etc       map[string]string // further files of /etc, or other contents
}

// Mount puts a path of the workspace, as it is, on itself: so that nobody inside can
// move it, nor write to it if it is read-only.
type Mount struct {
	Path     string
	ReadOnly bool
	Optional bool // it need not be there
}

// Hostname is what the sandbox calls itself.
const Hostname = "sandbox"

// Plan returns the steps that build the tree, in order.
func (t Tree) Plan() ([]proto.Op, error) {
	p := &plan{ops: make([]proto.Op, 0, 128)}
	p.skeleton()
	p.devices()
	if err := p.system(t.Root, t.Etc); err != nil {
		return nil, err
	}
	if err := p.proc(len(t.Devices) > 0); err != nil {
		return nil, err
	}
	p.gpus(t.Devices)
	p.writable(t.Workspace == "")
	if t.Changes != "" {
		p.overlay(t.Workspace, t.Changes)
	} else if t.Workspace != "" {
		p.bind("workspace", t.Workspace, proto.BindOwner)
	}
	p.ops = append(p.ops, Protect(t.Protect)...)
	for _, b := range t.Binds {
		target := strings.TrimPrefix(b.Target, "/")
		p.parents(target)
		var flags proto.OpFlag
		if !b.Writable {
			flags |= proto.BindReadOnly
		}
		if b.File {
			flags |= proto.BindFile
		}
		p.bind(target, b.Source, flags)
	}
	return p.ops, nil
}

// Protect returns the steps for paths of the workspace, once that is there.
func Protect(mounts []Mount) []proto.Op {
	p := &plan{}
	for _, m := range mounts {
		flags := proto.BindInside | proto.BindExisting
		if m.ReadOnly {
			flags |= proto.BindReadOnly
		}
		if m.Optional {
			flags |= proto.BindOptional
		}
		p.bind("workspace/"+m.Path, "workspace/"+m.Path, flags)
	}
	return p.ops
}

type plan struct{ ops []proto.Op }

func (p *plan) dir(name string, mode uint32) {
	p.ops = append(p.ops, proto.Op{Kind: proto.OpDir, Path: name, Mode: mode})
}

func (p *plan) file(name, content string) {
	p.ops = append(p.ops, proto.Op{Kind: proto.OpFile, Path: name, Source: content, Mode: 0o644})
}

func (p *plan) link(name, target string) {
	p.ops = append(p.ops, proto.Op{Kind: proto.OpLink, Path: name, Source: target})
}

func (p *plan) bind(name, source string, flags proto.OpFlag) {
	p.ops = append(p.ops, proto.Op{Kind: proto.OpBind, Path: name, Source: source, Flags: flags})
}

// parents makes the directories above a mount point; those that are there stay.
func (p *plan) parents(name string) {
	for i, c := range name {
		if c == '/' {
			p.dir(name[:i], 0o755)
		}
	}
}

func (p *plan) skeleton() {
	for _, d := range []string{"dev", "etc", "home", "run"} {
		p.dir(d, 0o755)
	}
}

var deviceNodes = []string{"null", "zero", "full", "random", "urandom", "tty"}

func (p *plan) devices() {
	for _, d := range deviceNodes {
		p.bind("dev/"+d, "/dev/"+d, proto.BindReadOnly|proto.BindDevice|proto.BindOptional|proto.BindFile)
	}
	p.ops = append(p.ops, proto.Op{Kind: proto.OpPts, Path: "dev/pts"})
	p.link("dev/ptmx", "pts/ptmx")
	p.link("dev/fd", "/proc/self/fd")
	for i, s := range []string{"stdin", "stdout", "stderr"} {
		p.link("dev/"+s, fmt.Sprintf("/proc/self/fd/%d", i))
	}
}

// bootID is bound over the kernel's own.
const bootID = "boot_id"

// synthetic are the files of /etc that are the sandbox's own.
var synthetic = map[string]string{
	"passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n" +
		"user:x:1000:1000:user:/home/user:/bin/bash\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"group":    "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
	"hosts":    "127.0.0.1 localhost " + Hostname + "\n::1 localhost\n",
	"hostname": Hostname + "\n",
	// The numbers by which the host and its start are told from others.
	"machine-id":    "a5a4a0cfc3c14b7c8e2a0f9d5b1e7c36\n",
	bootID:          "5b0e6d1c-9f43-4c1e-8a57-2f6d0c9b7e14\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

// systemDirs are where the host's programs are.
var systemDirs = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// shared are the parts of the host's /etc that programs need and that hold no secret.
var shared = []string{
	"alternatives", "crypto-policies", "ld.so.cache", "localtime", "mime.types", "pki/ca-trust/extracted",
	"pki/tls/certs", "protocols", "services", "ssl/certs", "ssl/openssl.cnf",
}

// Withheld are the directories of a root tree that the sandbox has its own of.
var Withheld = []string{"dev", "etc", "home", "proc", "run", "sys", "tmp", "workspace"}

// system shows the programs: of the host, or of an unpacked root tree.
func (p *plan) system(root string, etc map[string]string) error {
	files := maps.Clone(synthetic)
	maps.Copy(files, etc)
	for name, content := range files {
		p.file("etc/"+name, content)
	}
	p.link("etc/mtab", "/proc/self/mounts")
	if root == "" {
		for _, d := range systemDirs {
			p.entry(d, "/"+d)
		}
		for _, f := range shared {
			if _, err := os.Lstat("/etc/" + f); err == nil {
				p.parents("etc/" + f)
				p.entry("etc/"+f, "/etc/"+f)
			}
		}
		p.dir("var", 0o755)
		p.link("var/tmp", "/tmp")
		return nil
	}
	if err := p.entries(root, "", func(name string) bool { return slices.Contains(Withheld, name) }); err != nil {
		return err
	}
	if st, err := os.Lstat(filepath.Join(root, "etc")); err == nil && st.Mode()&os.ModeSymlink != 0 {
		return errors.New("its etc is a symbolic link, which would lead to the host's")
	}
	own := func(name string) bool { _, ok := synthetic[name]; return ok || name == "mtab" || name == "resolv.conf" }
	err := p.entries(filepath.Join(root, "etc"), "etc/", own)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func (p *plan) entries(dir, prefix string, skip func(name string) bool) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !skip(e.Name()) {
			p.entry(prefix+e.Name(), filepath.Join(dir, e.Name()))
		}
	}
	return nil
}

// entry shows a file or directory read-only, and a link as the link it is.
func (p *plan) entry(name, source string) {
	st, err := os.Lstat(source)
	switch {
	case err != nil:
	case st.Mode()&os.ModeSymlink != 0:
		if target, err := os.Readlink(source); err == nil {
			p.link(name, target)
		}
	case st.IsDir():
		p.bind(name, source, proto.BindReadOnly)
	case st.Mode().IsRegular():
		p.bind(name, source, proto.BindReadOnly|proto.BindFile)
	}
}

// overlay shows a directory as a workspace whose changes go elsewhere.
func (p *plan) overlay(base, changes string) {
	p.dir(proto.OverlayDir, 0o755)
	p.bind(proto.OverlayDir+"/lower", base, proto.BindOwner|proto.BindReadOnly)
	p.bind(proto.OverlayDir+"/data", changes, 0)
	p.ops = append(p.ops, proto.Op{Kind: proto.OpOverlay, Path: "workspace"})
}

// writable binds directories of the read-only root back read-write.
func (p *plan) writable(workspace bool) {
	self := func(name string, mode uint32) {
		p.dir(name, mode)
		p.bind(name, name, proto.BindInside)
	}
	self("tmp", 0o1777)
	self("dev/shm", 0o1777)
	self("home/user", 0o700)
	if workspace {
		self("workspace", 0o755)
	}
}
