package sandbox

import (
	"errors"
	"io"
	"math/bits"
	"os"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// receiver reads a socket and keeps the open files that come with the bytes.
type receiver struct {
	file  *os.File
	files []*os.File
}

func (r *receiver) Read(b []byte) (n int, err error) {
	raw, err := r.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	oob := make([]byte, unix.CmsgSpace(4*proto.MaxFiles))
	var oobn int
	var errno error
	err = raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, errno = unix.Recvmsg(int(fd), b, oob, unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(errno, unix.EAGAIN) && !errors.Is(errno, unix.EINTR)
	})
	if err := errors.Join(err, errno); err != nil {
		return 0, err
	}
	if oobn > 0 {
		if err := r.keep(oob[:oobn]); err != nil {
			return n, err
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *receiver) keep(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return err
		}
		for _, fd := range fds {
			r.files = append(r.files, os.NewFile(uintptr(fd), "session"))
		}
	}
	return nil
}

// take hands over what has come, if that is n files.
func (r *receiver) take(n int) ([]*os.File, bool) {
	files := r.files
	r.files = nil
	if len(files) == n {
		return files, true
	}
	for _, f := range files {
		f.Close()
	}
	return nil, false
}

// lend hands over the files of a STARTED frame by name.
func (r *receiver) lend(set proto.Files) (map[proto.Files]*os.File, bool) {
	files, ok := r.take(bits.OnesCount32(uint32(set)))
	named := map[proto.Files]*os.File{}
	for _, f := range files {
		lowest := set & -set
		named[lowest] = f
		set &^= lowest
	}
	return named, ok
}
