package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	headerSize = 8
	// maxReply is far above what the helper sends; more is not from a helper.
	maxReply = 4096
)

// ErrMalformed is a frame that no helper of this version sends.
var ErrMalformed = errors.New("malformed frame from the helper")

// Read reads one frame of the helper: Failure, Started, Reply or Exit. At a clean end
// it returns io.EOF, within a frame io.ErrUnexpectedEOF.
func Read(r io.Reader) (any, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	kind, n := Kind(binary.LittleEndian.Uint32(head[:])), binary.LittleEndian.Uint32(head[4:])
	if n > maxReply {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return decode(kind, body)
}

// Started is the body of a STARTED frame: the payload has been executed.
type Started struct {
	Files Files
	Lacks Lack
}

// Lack is a set of what this host does not give to a sandbox; as enum lack in helper.h.
type Lack uint32

// What may be lacking.
const (
	LackLandlock Lack = 1 << iota // all of it
	LackTruncate                  // of Landlock: the right to truncate, ABI 3
	LackIoctl                     // of Landlock: the right to make requests to devices, ABI 5
	LackScopes                    // of Landlock: scopes of signals and abstract sockets, ABI 6
	LackProc                      // a /proc of its own
	LackTime                      // a time namespace
)

// Files is the set of files that come with STARTED.
type Files uint32

// The files, in the order in which they come; as enum lent in helper.h.
const (
	FileTerminal Files = 1 << iota // the master of a session's terminal
	FileSide                       // the socket to a session's shell
	FileHTTP                       // the listening socket of the HTTP proxy
	FileSOCKS                      // the same of SOCKS5
)

// MaxFiles is the most that one frame brings; as MAX_FILES in control.c.
const MaxFiles = 8

// Ready is the body of a READY frame: who a sandbox is on the host, which waits for its Run.
type Ready struct{ UID, GID uint32 }

// Reply is the body of a REPLY frame, the answer to one order: Errno is why it could
// not be followed, or 0; then so many Files come with it.
type Reply struct{ Errno, Files uint32 }

func decode(kind Kind, b []byte) (any, error) {
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	switch {
	case kind == KindError && len(b) >= 8:
		return Failure{Stage: Stage(u32(b)), Errno: u32(b[4:]), Detail: string(b[8:])}, nil
	case kind == KindStarted && len(b) == 8:
		return Started{Files: Files(u32(b)), Lacks: Lack(u32(b[4:]))}, nil
	case kind == KindReady && len(b) == 8:
		return Ready{UID: u32(b), GID: u32(b[4:])}, nil
	case kind == KindReply && len(b) == 8:
		return Reply{Errno: u32(b), Files: u32(b[4:])}, nil
	case kind == KindExit && len(b) == 56:
		return Exit{WaitStatus: u32(b), Hit: Hit(u32(b[4:])), UserTime: u64(b[8:]), SystemTime: u64(b[16:]),
			Read: u64(b[24:]), Written: u64(b[32:]), Memory: u64(b[40:]), Tasks: u64(b[48:])}, nil
	}
	return nil, fmt.Errorf("%w: kind %d, %d bytes", ErrMalformed, kind, len(b))
}
