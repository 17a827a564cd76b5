package engine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// An engine and its worker talk over a pair of connected sockets. A frame is
//
//	length uint32 · kind byte · id uint64 · payload
//
// The engine asks by frameCall with an id of its own; the worker answers with any
// number of frameDelta and one frameEnd of the same id. A worker has at most
// wireWindow deltas of a request on the way that the engine's consumer has not
// taken (frameCredit); meanwhile the worker's own mailbox merges what follows. So
// neither side ever waits for the other one's consumers.
//
//	engine                         worker
//	                          <──  frameHello typeHash
//	frameCall 1 open path      ──>
//	                          <──  frameAsk 1 memory need   (where there is a Preflight)
//	frameAnswer 1 error        ──>
//	                          <──  frameEnd 1
//	frameCall 2 chat request   ──>
//	                          <──  frameDelta 2 …
//	frameCredit 2 n            ──>
//	frameCancel 2              ──>
//	                          <──  frameEnd 2 error, result
type frameKind byte

const (
	frameHello frameKind = iota + 1
	frameCall
	frameDelta
	frameEnd
	frameCredit
	frameCancel
	frameAsk
	frameAnswer
)

const (
	wireHead   = 4 + 1 + 8
	wireWindow = 32
	// mostFrame bounds what a broken process can make the other one hold.
	mostFrame = 1 << 30
)

type frame struct {
	kind    frameKind
	id      uint64
	payload []byte
}

// wire is one end of the connection. Frames are sent by a goroutine of its own, all
// that are there in one write: those of one step go together.
type wire struct {
	conn io.ReadWriteCloser
	in   *bufio.Reader
	most int // bytes of a payload

	mu     sync.Mutex
	more   *sync.Cond
	out    []byte
	closed bool
	done   chan struct{} // the sender has ended
}

func newWire(conn io.ReadWriteCloser) *wire {
	w := &wire{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), most: mostFrame, done: make(chan struct{})}
	w.more = sync.NewCond(&w.mu)
	go w.sender()
	return w
}

// send never blocks. What is sent after close, or to a process that is gone, is lost.
func (w *wire) send(f frame) error {
	if len(f.payload) > w.most {
		return errors.New("engine: more than 1 GiB at once cannot cross to or from the worker")
	}
	w.mu.Lock()
	w.out = binary.LittleEndian.AppendUint32(w.out, uint32(len(f.payload)))
	w.out = append(w.out, byte(f.kind))
	w.out = binary.LittleEndian.AppendUint64(w.out, f.id)
	w.out = append(w.out, f.payload...)
	w.mu.Unlock()
	w.more.Signal()
	return nil
}

func (w *wire) sender() {
	defer close(w.done)
	var batch []byte
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.out) == 0 && !w.closed {
			w.more.Wait()
		}
		if len(w.out) == 0 {
			return
		}
		batch, w.out = w.out, batch[:0]
		w.mu.Unlock()
		_, err := w.conn.Write(batch)
		w.mu.Lock()
		if err != nil {
			return // the reader sees it too
		}
	}
}

// receive blocks for the next frame.
func (w *wire) receive() (frame, error) {
	var head [wireHead]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > mostFrame {
		return frame{}, errWire
	}
	f := frame{kind: frameKind(head[4]), id: binary.LittleEndian.Uint64(head[5:])}
	if n <= 1<<20 {
		f.payload = make([]byte, n)
		_, err := io.ReadFull(w.in, f.payload)
		return f, err
	}
	// No more memory than has really come.
	var err error
	f.payload, err = io.ReadAll(io.LimitReader(w.in, int64(n)))
	if err == nil && len(f.payload) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return f, err
}

// flush sends what waits, then ends the sender; the connection stays open.
func (w *wire) flush() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.more.Signal()
	<-w.done
}

// close ends both directions.
func (w *wire) close() error {
	w.mu.Lock()
	w.out, w.closed = nil, true
	w.mu.Unlock()
	w.more.Signal()
	err := w.conn.Close()
	<-w.done
	return err
}
