package sandbox

import (
	"errors"
	"os"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// attach adds a workspace to what a waiting sandbox is told; the file that it returns
// goes with that.
func (o *owners) attach(r *proto.Run, dir string, id proto.Ready) (*os.File, error) {
	if dir == "" {
		return nil, nil
	}
	// It has been resolved: a link that is there now was put there since.
	fd, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, err
	}
	file, flag := os.NewFile(uintptr(fd), dir), proto.BindSame
	if os.Geteuid() == 0 {
		defer file.Close()
		flag = proto.BindTree
		if file, err = o.lend(fd, id); err != nil {
			return nil, err
		}
	}
	r.Late = append(r.Late, proto.Op{Kind: proto.OpBind, Path: "workspace", Source: dir, Flags: flag})
	return file, nil
}

// lend makes a mount of a directory from root's authority, as mount_tree and
// root_map_owners of the helper do.
func (o *owners) lend(dir int, id proto.Ready) (*os.File, error) {
	fd, err := unix.OpenTree(dir, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, err
	}
	tree := os.NewFile(uintptr(fd), "workspace")
	var st unix.Stat_t
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE})
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err == nil && st.Uid != id.UID {
		err = o.idmap(fd, idmapping{st.Uid, st.Gid, id.UID, id.GID})
	}
	if err != nil {
		tree.Close()
		return nil, err
	}
	return tree, nil
}

// idmapping says whose files become whose.
type idmapping struct{ uid, gid, toUID, toGID uint32 }

// owners keeps the user namespaces that name id maps.
type owners struct {
	helper string // Config.HelperPath
	mu     sync.Mutex
	kept   map[idmapping]*os.File
	closed bool
}

// maxOwners bounds what is kept: a host has few owners of workspaces.
const maxOwners = 64

func (o *owners) idmap(tree int, m idmapping) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	ns := o.kept[m]
	if ns == nil {
		if o.closed {
			return os.ErrClosed
		}
		var err error
		if ns, err = o.userNamespace(m); err != nil {
			return err
		}
		if len(o.kept) == maxOwners {
			o.drop()
		}
		if o.kept == nil {
			o.kept = map[idmapping]*os.File{}
		}
		o.kept[m] = ns
	}
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
}

func (o *owners) drop() {
	for m, ns := range o.kept {
		ns.Close()
		delete(o.kept, m)
	}
}

func (o *owners) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.drop()
}

// userNamespace has the helper make one: a clone of this process would copy its page tables.
func (o *owners) userNamespace(m idmapping) (*os.File, error) {
	p := newProcess()
	rest, err := p.launch(&Config{HelperPath: o.helper}, ready(proto.EncodeIDMap(m.uid, m.gid, m.toUID, m.toGID)), false, false)
	if err != nil {
		return nil, err
	}
	defer (&spare{process: p}).discard()
	frame, err := p.ask(rest)
	if err != nil {
		return nil, err
	}
	if reply, ok := frame.(proto.Reply); !ok || reply.Errno != 0 {
		return nil, errors.ErrUnsupported
	}
	files, ok := p.files.take(1)
	if !ok {
		return nil, unix.EMFILE
	}
	return files[0], nil
}
