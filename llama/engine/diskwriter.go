package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// diskWriter writes states on a goroutine of its own. What waits for it is bounded by its parking, which counts the memory of
// a state until it is written.
type diskWriter struct {
	root *os.Root
	log  *slog.Logger
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	wake    *sync.Cond // something to do, or done
	queue   []diskWrite
	busy    bool // with one that is not in the queue any more
	closing bool
}

// diskEntry is a file that is there, or is going to be.
type diskEntry struct {
	bytes int64
	state atomic.Int32 // diskWaiting to diskFailed
	gone  atomic.Bool  // it was removed, perhaps before it was written
}

const (
	diskWaiting = iota
	diskWriting
	diskWritten
	diskFailed
)

type diskWrite struct {
	name  string
	head  diskHead
	data  []byte
	entry *diskEntry
}

func newDiskWriter(root *os.Root, log *slog.Logger) *diskWriter {
	w := &diskWriter{root: root, log: log, done: make(chan struct{})}
	w.wake = sync.NewCond(&w.mu)
	return w
}

// put has a file written.
func (w *diskWriter) put(file diskWrite) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, file)
	w.wake.Broadcast()
}

// remove forgets a file that is not written yet.
func (w *diskWriter) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = slices.DeleteFunc(w.queue, func(file diskWrite) bool { return file.name == name })
}

// drain waits until everything is written.
func (w *diskWriter) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) > 0 || w.busy {
		w.wake.Wait()
	}
}

// close writes what waits, and ends the goroutine.
func (w *diskWriter) close() {
	w.mu.Lock()
	w.closing = true
	w.wake.Broadcast()
	w.mu.Unlock()
	<-w.done
}

// run is the body of the goroutine.
func (w *diskWriter) run() {
	defer close(w.done)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.queue) == 0 {
			if w.closing {
				return
			}
			w.wake.Wait()
		}
		file := w.queue[0]
		w.queue = slices.Delete(w.queue, 0, 1)
		w.busy = true
		file.entry.state.Store(diskWriting)
		w.mu.Unlock()
		if err := w.write(file); err != nil {
			file.entry.state.Store(diskFailed)
			w.log.Error("engine: a state was not written", "file", file.name, "error", err)
		} else {
			file.entry.state.Store(diskWritten)
		}
		w.mu.Lock()
		w.busy = false
		w.wake.Broadcast()
	}
}

func (w *diskWriter) write(file diskWrite) (err error) {
	if _, err := w.root.Stat(file.name); err == nil || file.entry.gone.Load() {
		return nil
	}
	temp := fmt.Sprintf("%s.%d%s", file.name, time.Now().UnixNano(), tempSuffix)
	f, err := w.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.root.Remove(temp))
		}
	}()
	head := file.head.bytes()
	sum := sha256.New()
	_, _ = sum.Write(head)
	_, _ = sum.Write(file.data)
	for _, part := range [][]byte{[]byte(diskMagic), sum.Sum(nil), head, file.data} {
		if _, err := f.Write(part); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := w.root.Rename(temp, file.name); err != nil || !file.entry.gone.Load() {
		return err
	}
	return w.root.Remove(file.name)
}
