package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// stateKey is the hash of all that states depend on: the model's file, llama.cpp,
// and how the context is made. Rope settings and control vectors are the model's own.
func (d *diskCache) stateKey(ctx context.Context, m *llama.Model, p llama.ContextParams) ([sha256.Size]byte, error) {
	s, err := llama.SystemInfo()
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s %v %v %v %v %v", diskMagic, s.Tree, p.TypeK, p.TypeV, p.FlashAttn, p.KVUnified, p.SWAFull)
	if !p.KVUnified {
		_, _ = fmt.Fprintf(h, " %d", p.NSeqMax)
	}
	parts := 1
	if n, ok := m.Meta("split.count"); ok {
		parts, _ = strconv.Atoi(n)
	}
	for i := 1; i <= max(1, parts); i++ {
		path := strings.Replace(m.Path(), "-00001-of-", fmt.Sprintf("-%05d-of-", i), 1)
		sum, err := d.fileSum(ctx, path)
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("engine: the hash of the model: %w", err)
		}
		_, _ = io.WriteString(h, " "+sum)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// fileSum is a file's SHA-256. It is kept for files that have not changed since: it
// takes a second for each gigabyte.
func (d *diskCache) fileSum(ctx context.Context, path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	sys, _ := st.Sys().(*syscall.Stat_t)
	var inode uint64
	if sys != nil {
		inode = sys.Ino
	}
	id := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %d", path, st.Size(), st.ModTime().UnixNano(), inode))
	name := hex.EncodeToString(id[:16]) + sumSuffix
	if known, err := d.root.ReadFile(name); err == nil && len(known) == 2*sha256.Size {
		return string(known), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, reader{ctx, f}); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	return sum, d.root.WriteFile(name, []byte(sum), 0o600)
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

func ownedByUs(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid()
}

// CacheUsage counts the states in a directory that was Params.Cache.Dir, and their bytes.
func CacheUsage(dir string) (states int, bytes int64, err error) {
	err = eachCacheFile(dir, func(_ *os.Root, name string, size int64) error {
		if strings.HasSuffix(name, diskSuffix) {
			states++
		}
		bytes += size
		return nil
	})
	return states, bytes, err
}

// ClearCache removes all states from a directory that was Params.Cache.Dir, and nothing else. Engines that use it meanwhile
// compute what they do not find.
func ClearCache(dir string) error {
	return eachCacheFile(dir, func(root *os.Root, name string, _ int64) error { return root.Remove(name) })
}

func eachCacheFile(dir string, do func(root *os.Root, name string, size int64) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("engine: the cache: %w", err)
	}
	defer root.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("engine: the cache: %w", err)
	}
	var errs []error
	for _, e := range entries {
		ours := strings.HasSuffix(e.Name(), diskSuffix) || strings.HasSuffix(e.Name(), sumSuffix) || strings.Contains(e.Name(), diskSuffix+".")
		if info, err := e.Info(); err == nil && ours && info.Mode().IsRegular() {
			errs = append(errs, do(root, e.Name(), info.Size()))
		}
	}
	return errors.Join(errs...)
}
