package proto

import "encoding/binary"

type encoder struct{ buf []byte }

func (e *encoder) u32(v uint32) { e.buf = binary.LittleEndian.AppendUint32(e.buf, v) }
func (e *encoder) u64(v uint64) { e.buf = binary.LittleEndian.AppendUint64(e.buf, v) }

func (e *encoder) bytes(s string) {
	e.u32(uint32(len(s)))
	e.buf = append(append(e.buf, s...), 0)
}

func (e *encoder) vector(v []string) {
	e.u32(uint32(len(v)))
	for _, s := range v {
		e.bytes(s)
	}
}

// frame starts a frame; finish fills in its length.
func frame(k Kind, room int) *encoder {
	e := &encoder{buf: make([]byte, 0, room)}
	e.u32(uint32(k))
	e.u32(0)
	return e
}

func (e *encoder) finish() []byte {
	binary.LittleEndian.PutUint32(e.buf[4:], uint32(len(e.buf)-headerSize))
	return e.buf
}

func (e *encoder) ops(v []Op) {
	e.u32(uint32(len(v)))
	for _, o := range v {
		e.u32(uint32(o.Kind))
		e.u32(uint32(o.Flags))
		e.u32(o.Mode)
		e.bytes(o.Path)
		e.bytes(o.Source)
	}
}

// Encode returns the BUILD frame. Strings other than the content of files and
// the filter must hold no NUL.
func (b *Build) Encode() []byte {
	e := frame(KindBuild, 16<<10)
	for _, v := range []uint32{Version, b.Mode, b.UID, b.GID, b.SpareUID, b.SpareGID, uint32(b.Network)} {
		e.u32(v)
	}
	e.bytes(b.Hostname)
	e.bytes(b.TmpfsSize)
	e.bytes(b.TmpfsInodes)
	e.ops(b.Ops)
	e.bytes(string(b.Filter))
	e.vector(b.Enter)
	e.u32(uint32(len(b.Gauges)))
	for _, g := range b.Gauges {
		e.u32(uint32(g.Hit))
		e.u64(g.Limit)
		e.bytes(g.Path)
		e.bytes(g.Key)
	}
	return e.finish()
}

// Encode returns the RUN frame, whose strings must hold no NUL.
func (r *Run) Encode() []byte {
	e := frame(KindRun, 1<<10)
	e.u32(r.Flags)
	e.ops(r.Late)
	e.u32(uint32(len(r.Limits)))
	for _, l := range r.Limits {
		e.u32(l.Resource)
		e.u64(l.Value)
	}
	e.u64(r.MaxMemory)
	e.u64(r.MaxCPU)
	e.u32(r.MaxTasks)
	e.u32(r.MaxFiles)
	e.bytes(r.Path)
	e.bytes(r.Dir)
	e.vector(r.Argv)
	e.vector(r.Env)
	return e.finish()
}

// Encode returns both frames.
func (r *Request) Encode() []byte {
	return append(r.Build.Encode(), r.Run.Encode()...)
}

// EncodeIDMap returns an IDMAP frame, which asks for a user namespace that maps uid:gid to toUID:toGID.
func EncodeIDMap(uid, gid, toUID, toGID uint32) []byte {
	e := frame(KindIDMap, headerSize+16)
	for _, v := range []uint32{uid, gid, toUID, toGID} {
		e.u32(v)
	}
	return e.finish()
}

// EncodeSignal returns a SIGNAL frame.
func EncodeSignal(number uint32, target Target) []byte {
	e := frame(KindSignal, headerSize+8)
	e.u32(number)
	e.u32(uint32(target))
	return e.finish()
}

// EncodeOpen returns an OPEN frame, which asks for the file that an absolute path
// means inside, opened with the flags and the mode of openat2(2).
func EncodeOpen(flags, mode uint32, path string) []byte { return order(KindOpen, flags, mode, path) }

// EncodeDial returns a DIAL frame, which asks for a socket that connects to an address inside.
func EncodeDial(family, port uint32, address string) []byte {
	return order(KindDial, family, port, address)
}

func order(k Kind, a, b uint32, rest string) []byte {
	e := frame(k, headerSize+8+len(rest))
	e.u32(a)
	e.u32(b)
	e.buf = append(e.buf, rest...)
	return e.finish()
}

// EncodeStreams returns a STREAMS frame, which asks for a pair of pipes with this name.
func EncodeStreams(name [StreamName]byte) []byte {
	e := frame(KindStreams, headerSize+StreamName)
	e.buf = append(e.buf, name[:]...)
	return e.finish()
}
