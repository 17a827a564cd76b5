package llama

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	printedBlocks = 128
	printedBlock  = 64 << 10
)

// fingerprint tells model files apart in milliseconds: a hash of the size and of blocks from all over the file, which is all of a
// small one. The parts of a split model count.
func fingerprint(path string) (string, error) {
	paths := []string{path}
	if base := filepath.Base(path); strings.Contains(base, "-00001-of-") {
		parts, err := filepath.Glob(filepath.Join(filepath.Dir(path), strings.Replace(base, "-00001-of-", "-?????-of-", 1)))
		if err != nil || len(parts) == 0 {
			parts = paths
		}
		paths = parts
	}
	h := sha256.New()
	for _, p := range paths {
		if err := printFile(h, p); err != nil {
			return "", fmt.Errorf("llama: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func printFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	size := st.Size()
	_, _ = w.Write(binary.LittleEndian.AppendUint64(nil, uint64(size)))
	if size <= printedBlocks*printedBlock {
		_, err = io.Copy(w, f)
		return err
	}
	block := make([]byte, printedBlock)
	for i := range int64(printedBlocks) {
		at := (size - printedBlock) / (printedBlocks - 1) * i
		if _, err := f.ReadAt(block, at); err != nil {
			return err
		}
		_, _ = w.Write(block)
	}
	return nil
}
