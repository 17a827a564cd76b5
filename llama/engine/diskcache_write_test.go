package engine

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func emptyDiskCache(t *testing.T) (*diskCache, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	return &diskCache{
		root: root, most: 1 << 20, kept: map[string]*diskEntry{}, log: slog.New(slog.DiscardHandler),
		writer: newDiskWriter(root, slog.New(slog.DiscardHandler)),
	}, dir
}

// A state that is removed before it was written is not there afterwards.
func TestDiskCacheRemovesWhatWaits(t *testing.T) {
	d, dir := emptyDiskCache(t)
	stays := d.put(d.head(key{}, 0, []llama.Token{1, 2}), []byte("state"))
	goes := d.put(d.head(key{}, 0, []llama.Token{3, 4}), []byte("state"))
	require.Equal(t, stays, d.put(d.head(key{}, 0, []llama.Token{1, 2}), []byte("state")), "once")
	d.remove(goes)
	require.EqualValues(t, diskFixed+8+5, d.bytes)
	require.False(t, d.has(stays))
	go d.writer.run()
	d.writer.drain()
	require.True(t, d.has(stays))
	require.NoError(t, d.close())
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, stays)}, names)
}

// What a process has left in the middle of a write goes, but not what another one is writing.
func TestDiskCacheRemovesOldTemporaries(t *testing.T) {
	d, dir := emptyDiskCache(t)
	old, young := filepath.Join(dir, "a.state.1.tmp"), filepath.Join(dir, "b.state.2.tmp")
	for _, path := range []string{old, young} {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	long := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(old, long, long))
	require.NoError(t, d.scan())
	require.NoFileExists(t, old)
	require.FileExists(t, young)
	require.NoError(t, d.root.Close())
}

// TestParkingOfSlowDisk: what waits to be written counts as main memory, and is there until it is written.
func TestParkingOfSlowDisk(t *testing.T) {
	const size, most = 100, 3
	d, dir := emptyDiskCache(t)
	p := newParking(most*size, true)
	p.disk = d
	prompt := func(i int) []llama.Token { return slices.Repeat([]llama.Token{llama.Token(i)}, 2*minShare) }
	save := func(i int) {
		p.save(key{}, prompt(i), []int{2 * minShare}, func(int, int) []byte { return bytes.Repeat([]byte{byte(i)}, size) })
	}
	kept := func(i int) []byte {
		g, n := p.match(key{}, prompt(i))
		if n == 0 {
			return nil
		}
		return p.state(key{}, g, prompt(i))
	}
	for i := range 5 {
		save(i)
	}
	require.EqualValues(t, most*size, p.bytes)
	require.Len(t, d.writer.queue, most, "the disk holds no more than main memory may")
	require.Nil(t, kept(0))
	require.Len(t, kept(2), size, "not written, and there")
	busy, _ := p.match(key{}, prompt(2))
	d.kept[busy.file].state.Store(diskWriting) // as if the writer were at it
	save(5)
	save(6)
	require.Len(t, kept(2), size, "what is being written is written to the end")
	require.Nil(t, kept(3))
	require.EqualValues(t, most*size, p.bytes)
	go d.writer.run()
	d.writer.drain()
	for i := 7; i < 10; i++ {
		save(i)
		d.writer.drain()
	}
	require.EqualValues(t, most*size, p.bytes)
	for _, i := range []int{2, 5, 6, 7, 8, 9} {
		require.Equal(t, bytes.Repeat([]byte{byte(i)}, size), kept(i), i)
		p.trim()
	}
	require.NoError(t, d.close())
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, names, 6)
}

// TestStateKeyEndsWithContext: the hash of a large file is not waited for.
func TestStateKeyEndsWithContext(t *testing.T) {
	d, dir := emptyDiskCache(t)
	path := filepath.Join(dir, "model")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.fileSum(ctx, path)
	require.ErrorIs(t, err, context.Canceled)
	_, err = d.fileSum(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, d.root.Close())
}

// TestCloseWritesAll: more states than main memory holds are on disk when the loop has ended.
func TestCloseWritesAll(t *testing.T) {
	const sequences = 6
	disk, dir := emptyDiskCache(t)
	go disk.writer.run()
	d := newFakeDecoder(t, 3000)
	d.noEOG = true
	sched := newScheduler(d.cells, 1000, sequences, 1000, d)
	sched.parking.disk = disk
	l := newLoop(d, sched, func(llama.Token) bool { return false }, slog.New(slog.DiscardHandler))
	r := rand.New(rand.NewPCG(6, 6))
	var all []*sequence
	for range sequences {
		s := newTestSequence(randomPrompt(r, 60), 64)
		l.submit(s)
		all = append(all, s)
	}
	go l.run()
	for _, s := range all {
		<-s.retired
	}
	l.close()
	require.NoError(t, disk.close())
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, names, sequences)
}
