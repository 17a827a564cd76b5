package llama

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// ggufPart is the head of a file that is a model, or a part of one.
type ggufPart struct {
	kv      map[string]ggufValue
	tensors []ggufTensor
	size    int64
}

func readPart(r io.Reader, size int64) (p ggufPart, err error) {
	p.size = size
	p.kv, p.tensors, err = readGGUF(r, size)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("it ends within its head: incomplete download?")
	}
	return p, err
}

// openPart says what the file system says before llama.cpp says less.
func openPart(path string) (p ggufPart, err error) {
	f, err := os.Open(path)
	if err != nil {
		return p, fmt.Errorf("llama: load: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return p, fmt.Errorf("llama: load: %w", err)
	}
	if !st.Mode().IsRegular() {
		return p, errorf(ErrModelFormat, "load %s: not a regular file", path)
	}
	if p, err = readPart(f, st.Size()); err != nil {
		return p, errorf(ErrModelFormat, "load %s: %v", path, err)
	}
	return p, nil
}

// checkModelFile reads the head of a model's file, and those of its other parts.
func checkModelFile(path string) (head ggufHead, err error) {
	if strings.ContainsRune(path, 0) {
		return head, errorf(ErrInvalidParam, "the model's path contains a NUL byte")
	}
	first, err := openPart(path)
	if err != nil {
		return head, err
	}
	parts := []ggufPart{first}
	if count := first.kv["split.count"]; count.kind == ggufU16 && count.n > 1 {
		prefix, ok := strings.CutSuffix(path, fmt.Sprintf("-00001-of-%05d.gguf", count.n))
		if !ok {
			return head, errorf(ErrModelFormat, "load %s: the model has %d parts: name the first one, PREFIX-00001-of-%05[2]d.gguf", path, count.n)
		}
		for i := int64(1); i < count.n; i++ {
			part := fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i+1, count.n)
			p, err := openPart(part)
			if err != nil {
				return head, err
			}
			if no := p.kv["split.no"]; no.kind != ggufU16 || no.n != i {
				return head, errorf(ErrModelFormat, "load %s: it is not part %d of a model: split.no", part, i+1)
			}
			parts = append(parts, p)
		}
	}
	if head, err = checkParts(parts); err != nil {
		return head, errorf(ErrModelFormat, "load %s: %v", path, err)
	}
	return head, nil
}

// checkParts refuses metadata for which llama.cpp would abort the process. The first part's counts.
func checkParts(parts []ggufPart) (head ggufHead, err error) {
	kv := parts[0].kv
	if t, ok := kv["general.type"]; ok && t.kind == ggufString && t.s != "model" {
		return head, fmt.Errorf("it holds a %.40q, not a model", t.s)
	}
	arch, ok := kv["general.architecture"]
	if !ok || arch.kind != ggufString || arch.s == "" {
		return head, fmt.Errorf("it names no architecture")
	}
	h := hyperparams{kv: kv, arch: arch.s}
	for _, p := range parts {
		if v, ok := p.kv["general.alignment"]; ok && (v.kind != ggufU32 || v.n < ggufAlignment || v.n > 1<<20 || v.n&(v.n-1) != 0) {
			return head, fmt.Errorf("general.alignment is %d: want a power of two from %d on", v.n, ggufAlignment)
		}
		h.tensors = append(h.tensors, p.tensors...)
	}
	head = ggufHead{arch: arch.s, nVocab: int64(kv["tokenizer.ggml.tokens"].length)}
	head.fileType = -1
	if v, ok := kv["general.file_type"]; ok && v.kind == ggufU32 {
		head.fileType = int32(v.n)
	}
	head.quantised = slices.ContainsFunc(h.tensors, func(t ggufTensor) bool { return !slices.Contains(floatTypes, t.kind) })
	head.output = slices.ContainsFunc(h.tensors, func(t ggufTensor) bool { return t.name == "output.weight" })
	if err := h.check(); err != nil {
		return head, err
	}
	for _, p := range parts {
		for i := range p.tensors {
			if err := cmp.Or(p.tensors[i].check(), p.tensors[i].fits(p.size)); err != nil {
				return head, err
			}
		}
	}
	return head, h.checkArch()
}
