package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// diskCache keeps the segments of a parking in the files of a directory, one each,
// so that a later process finds them. A file is believed only where its checksum,
// its key and its tokens are what was looked for; but who can write to the directory
// can make such a file, and llama.cpp trusts what is in it.
type diskCache struct {
	root   *os.Root
	model  [sha256.Size]byte // of all that a state depends on, beside the key of its request
	most   int64
	kept   map[string]*diskEntry
	bytes  int64
	files  []diskFile // whose keys have not been asked for
	log    *slog.Logger
	writer *diskWriter
}

// diskHead says which tokens a file is about: those up to its segment's end.
type diskHead struct {
	key    [sha256.Size]byte
	start  int
	tokens []llama.Token
}

const (
	diskMagic  = "LMSTATE1"
	diskSuffix = ".state"
	tempSuffix = ".tmp"
	sumSuffix  = ".sum"
	diskFixed  = len(diskMagic) + 2*sha256.Size + 8
	// mostTokens and mostStateBytes bound what is read of a file that may hold anything.
	mostTokens     = 1 << 24
	mostStateBytes = 1 << 36
)

var errDiskFile = errors.New("not a state of this version")

// openDiskCache takes a directory that nobody else can write to, and makes it where there is none.
func openDiskCache(ctx context.Context, m *llama.Model, c llama.ContextParams, p *Params) (_ *diskCache, err error) {
	dir := p.Cache.Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("engine: Params.Cache.Dir: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("engine: Params.Cache.Dir: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Close())
		}
	}()
	if err := checkPrivate(root, dir); err != nil {
		return nil, err
	}
	d := &diskCache{root: root, most: p.Cache.DirBytes, kept: map[string]*diskEntry{}, log: p.Logger, writer: newDiskWriter(root, p.Logger)}
	if d.model, err = d.stateKey(ctx, m, c); err != nil {
		return nil, err
	}
	if err := d.scan(); err != nil {
		return nil, err
	}
	go d.writer.run()
	return d, nil
}

func checkPrivate(root *os.Root, dir string) error {
	st, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("engine: Params.Cache.Dir: %w", err)
	}
	if st.Mode().Perm()&0o022 != 0 || !ownedByUs(st) {
		return invalid("Params.Cache.Dir", "others can write to %s (%v): give it to this user with mode 0700", dir, st.Mode())
	}
	return nil
}

// close waits for what is to be written.
func (d *diskCache) close() error {
	if d == nil {
		return nil
	}
	d.writer.close()
	return d.root.Close()
}

// head describes the segment of a parking.
func (d *diskCache) head(k key, start int, tokens []llama.Token) diskHead {
	h := sha256.New()
	_, _ = h.Write(d.model[:])
	_, _ = fmt.Fprintf(h, "%d %s %d %s", len(k.scope), k.scope, len(k.adapters), k.adapters)
	return diskHead{key: [sha256.Size]byte(h.Sum(nil)), start: start, tokens: tokens}
}

func (h *diskHead) bytes() []byte {
	b := append([]byte(nil), h.key[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.start))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.tokens)))
	for _, t := range h.tokens {
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
	}
	return b
}

func (h *diskHead) name() string {
	sum := sha256.Sum256(h.bytes())
	return hex.EncodeToString(sum[:16]) + diskSuffix
}

// put has a segment written, and returns the name of its file.
func (d *diskCache) put(h diskHead, data []byte) string {
	name := h.name()
	if d.kept[name] != nil {
		return name
	}
	entry := &diskEntry{bytes: int64(diskFixed + 4*len(h.tokens) + len(data))}
	d.book(name, entry)
	d.writer.put(diskWrite{name, h, data, entry})
	return name
}

// has says whether a file is there in full.
func (d *diskCache) has(name string) bool {
	entry := d.kept[name]
	return entry != nil && entry.state.Load() == diskWritten
}

// writing says whether a file is being written just now.
func (d *diskCache) writing(name string) bool {
	entry := d.kept[name]
	return entry != nil && entry.state.Load() == diskWriting
}

// get reads the state of a segment; nil, and there is no file any more, where it is not what it should be.
func (d *diskCache) get(name string, want diskHead) []byte {
	data, err := d.read(name, want)
	if err != nil {
		d.log.Warn("engine: a state on disk is not used", "file", name, "error", err)
		d.remove(name)
	}
	return data
}

func (d *diskCache) read(name string, want diskHead) ([]byte, error) {
	f, size, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := make([]byte, size)
	if _, err := io.ReadFull(f, all); err != nil {
		return nil, err
	}
	h, data, err := parseState(all)
	if err != nil {
		return nil, err
	}
	if h.key != want.key || h.start != want.start || !slices.Equal(h.tokens, want.tokens) {
		return nil, errDiskFile
	}
	now := time.Now()
	return data, d.root.Chtimes(name, now, now)
}

func (d *diskCache) open(name string) (*os.File, int64, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() < int64(diskFixed) || st.Size() > mostStateBytes) {
		err = errDiskFile
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}

// parseState takes a whole file apart.
func parseState(all []byte) (diskHead, []byte, error) {
	h, n, err := parseHead(all)
	if err != nil {
		return h, nil, err
	}
	body := len(diskMagic) + sha256.Size
	if sum := sha256.Sum256(all[body:]); !bytes.Equal(sum[:], all[len(diskMagic):body]) {
		return h, nil, errors.New("the checksum does not fit")
	}
	return h, all[n:], nil
}

// parseHead reads the head at the beginning of a file, and says how long it is.
func parseHead(b []byte) (h diskHead, n int, err error) {
	if len(b) < diskFixed || string(b[:len(diskMagic)]) != diskMagic {
		return h, 0, errDiskFile
	}
	p := b[len(diskMagic)+sha256.Size:]
	h.key = [sha256.Size]byte(p[:sha256.Size])
	start, count := binary.LittleEndian.Uint32(p[sha256.Size:]), binary.LittleEndian.Uint32(p[sha256.Size+4:])
	if count > mostTokens || start >= count || len(b) < diskFixed+4*int(count) {
		return h, 0, errDiskFile
	}
	h.start = int(start)
	h.tokens = make([]llama.Token, count)
	for i := range h.tokens {
		h.tokens[i] = llama.Token(binary.LittleEndian.Uint32(b[diskFixed+4*i:]))
	}
	return h, diskFixed + 4*int(count), nil
}

// book counts a file.
func (d *diskCache) book(name string, entry *diskEntry) {
	d.bytes += entry.bytes
	d.kept[name] = entry
}

// full makes room in what no request has asked for, and says whether that was not enough.
func (d *diskCache) full() bool {
	for d.bytes > d.most && len(d.files) > 0 {
		oldest := 0
		for i, f := range d.files {
			if f.used.Before(d.files[oldest].used) {
				oldest = i
			}
		}
		d.remove(d.files[oldest].name)
		d.files = slices.Delete(d.files, oldest, oldest+1)
	}
	return d.bytes > d.most
}

// take gives the files of a key, once.
func (d *diskCache) take(k key) (files []diskFile) {
	h := d.head(k, 0, nil)
	d.files = slices.DeleteFunc(d.files, func(f diskFile) bool {
		ours := f.head.key == h.key
		if ours {
			files = append(files, f)
		}
		return ours
	})
	return files
}

// remove forgets a file.
func (d *diskCache) remove(name string) {
	if entry := d.kept[name]; entry != nil {
		d.bytes -= entry.bytes
		entry.gone.Store(true) // before the file goes: the writer looks at it behind it
		d.writer.remove(name)
		delete(d.kept, name)
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("engine: a state on disk was not removed", "file", name, "error", err)
	}
}

// diskFile is what the directory has of one segment.
type diskFile struct {
	name string
	head diskHead
	size int64
	used time.Time
}

// scan reads the heads of all files that can be states, and deletes what cannot.
func (d *diskCache) scan() error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("engine: Params.Cache.Dir: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tempSuffix) {
			d.removeOld(e)
		}
		if !strings.HasSuffix(e.Name(), diskSuffix) {
			continue
		}
		file, err := d.readHead(e.Name())
		if err != nil || file.name != file.head.name() {
			d.remove(e.Name())
			continue
		}
		entry := &diskEntry{bytes: file.size}
		entry.state.Store(diskWritten)
		d.book(file.name, entry)
		d.files = append(d.files, file)
	}
	// Those that are continued come before those that continue them.
	slices.SortFunc(d.files, func(a, b diskFile) int { return len(a.head.tokens) - len(b.head.tokens) })
	return nil
}

// removeOld removes what a process that ended in the middle of a write has left; another one may be writing now.
func (d *diskCache) removeOld(e fs.DirEntry) {
	if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > time.Hour {
		d.remove(e.Name())
	}
}

func (d *diskCache) readHead(name string) (diskFile, error) {
	f, size, err := d.open(name)
	if err != nil {
		return diskFile{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return diskFile{}, err
	}
	b := make([]byte, diskFixed)
	if _, err := io.ReadFull(f, b); err != nil {
		return diskFile{}, err
	}
	count := int64(binary.LittleEndian.Uint32(b[diskFixed-4:]))
	if count > mostTokens || int64(diskFixed)+4*count > size {
		return diskFile{}, errDiskFile
	}
	b = append(b, make([]byte, 4*count)...)
	if _, err := io.ReadFull(f, b[diskFixed:]); err != nil {
		return diskFile{}, err
	}
	h, _, err := parseHead(b)
	return diskFile{name, h, size, st.ModTime()}, err
}
