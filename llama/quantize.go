package llama

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// ftypes are the quantisations by the names that llama-quantize has for them (llama_ftype).
var ftypes = map[string]int32{
	"F32": 0, "F16": 1, "BF16": 32, "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "Q8_0": 7,
	"Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18,
	"IQ3_XS": 22, "IQ3_S": 26, "IQ3_M": 27, "IQ4_NL": 25, "IQ4_XS": 30, "TQ1_0": 36, "TQ2_0": 37, "MXFP4_MOE": 38,
}

// QuantizeTypes are the names that QuantizeParams.Type can have, in alphabetical order. Those for which llama.cpp wants an
// importance matrix are not among them.
func QuantizeTypes() []string { return slices.Sorted(maps.Keys(ftypes)) }

// QuantizeParams says how to quantise a model (llama_model_quantize_params).
type QuantizeParams struct {
	// Type is one of [QuantizeTypes], in any case: "Q8_0", "q4_k_m".
	Type string
	// NThreads computes on so many threads; 0 = the physical cores.
	NThreads int
	// AllowRequantize takes a file whose tensors are quantised already: what that lost stays lost.
	AllowRequantize bool
	// Pure gives all tensors the same type. Otherwise the mixture of llama.cpp's tools gives some of them more bits.
	Pure bool
	// KeepOutput leaves the output layer as it is.
	KeepOutput bool
	// Progress is called on the goroutine that quantises, before each tensor, with a fraction from 0 to 1. A panic in it ends
	// the work with an error.
	Progress func(fraction float32)
}

// Quantize writes a model's file with other types of weights. out appears as a whole or not at all, and replaces what is
// there; of a split model in names the first part, and out is one file. ctx ends it before the next tensor.
//
// # Errors
//
//   - ctx's error
//   - [ErrInvalidParam] for an unknown type, where in and out are the same file, and for a model that is quantised already
//     without AllowRequantize
//   - [ErrModelFormat] when in is no usable model, or holds what the type cannot
//   - the file system's errors, such as a full disk
//   - [ErrUnsupported] in a build without cgo
//
// C: llama_model_quantize
func Quantize(ctx context.Context, in, out string, p QuantizeParams) error {
	ftype, ok := ftypes[strings.ToUpper(p.Type)]
	switch {
	case !ok:
		return errorf(ErrInvalidParam, "quantize: type %.40q: want one of %s", p.Type, strings.Join(QuantizeTypes(), ", "))
	case p.NThreads < 0 || p.NThreads > mostThreads:
		return errorf(ErrInvalidParam, "quantize: NThreads = %d: want 0 to %d", p.NThreads, mostThreads)
	case strings.ContainsRune(out, 0):
		return errorf(ErrInvalidParam, "quantize: the path of the output contains a NUL byte")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("llama: quantize %s: %w", in, err)
	}
	if err := native.Init(); err != nil {
		return fromNative(err, ErrUnsupported, "llama.cpp")
	}
	head, err := checkModelFile(in)
	if err != nil {
		return err
	}
	if head.quantised && !p.AllowRequantize {
		return errorf(ErrInvalidParam, "quantize %s: its tensors are quantised already: start from a file of F16, BF16 or F32, or set AllowRequantize", in)
	}
	if same, err := sameFile(in, out); err != nil || same {
		if err == nil {
			err = errorf(ErrInvalidParam, "quantize %s: the output is the same file", in)
		}
		return err
	}
	return writeWhole(out, 0o644, func(temp string) error { return quantize(ctx, in, temp, ftype, p) })
}

const mostThreads = 512 // GGML_MAX_N_THREADS

func quantize(ctx context.Context, in, out string, ftype int32, p QuantizeParams) error {
	np := native.QuantizeParams{
		Ftype: ftype, NThreads: int32(p.NThreads), AllowRequantize: p.AllowRequantize, Pure: p.Pure, QuantizeOutputTensor: !p.KeepOutput,
	}
	if np.NThreads == 0 {
		np.NThreads = int32(native.NThreadsDefault())
	}
	var panicked any
	progress := func(fraction float32) bool {
		if ctx.Err() == nil && p.Progress != nil {
			panicked = callRecovered(func() { p.Progress(fraction) })
		}
		return ctx.Err() == nil && panicked == nil
	}
	fitting.RLock()
	err := native.Quantize(in, out, np, progress)
	fitting.RUnlock()
	var ne *native.Error
	switch {
	case err == nil:
		return nil
	case panicked != nil:
		return fmt.Errorf("llama: quantize %s: the Progress callback panicked: %v", in, panicked)
	case errors.As(err, &ne) && ne.Code == native.CodeCancelled:
		return fmt.Errorf("llama: quantize %s: %w", in, ctx.Err())
	}
	// C++ says of a write only that it failed
	if disk := canAppend(out); disk != nil {
		return fmt.Errorf("llama: quantize %s: %w", in, disk)
	}
	return fromNative(err, ErrModelFormat, "quantize "+in)
}

func sameFile(a, b string) (bool, error) {
	sa, err := os.Stat(a)
	if err != nil {
		return false, fmt.Errorf("llama: quantize: %w", err)
	}
	sb, err := os.Stat(b)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil && sb.IsDir() {
		err = &os.PathError{Op: "write", Path: b, Err: errors.New("is a directory")}
	}
	if err != nil {
		return false, fmt.Errorf("llama: quantize: %w", err)
	}
	return os.SameFile(sa, sb), nil
}

// canAppend tries to write what a failed write could have been.
func canAppend(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 1<<20))
	return errors.Join(err, f.Close())
}

// writeWhole lets write make a file beside path, and puts it there when all of it is on the disk.
func writeWhole(path string, mode os.FileMode, write func(temp string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("llama: %w", err)
	}
	temp := f.Name()
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(temp))
		}
	}()
	if err := write(temp); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return fmt.Errorf("llama: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("llama: %w", err)
	}
	return nil
}
