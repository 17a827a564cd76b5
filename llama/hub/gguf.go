package hub

import (
	"errors"
	"io"
	"net/url"
	"os"
	"strings"
)

// magic begins every GGUF file, each part of a split one too (llama.cpp: GGUF_MAGIC).
const magic = "GGUF"

func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var head [len(magic)]byte
	if _, err := io.ReadFull(f, head[:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if string(head[:]) != magic {
		return &FormatError{path, "it does not begin with GGUF; give the path of a .gguf file"}
	}
	return nil
}

// notModel is the error for an answer of a server that does not begin as a model does.
func notModel(u *url.URL, contentType string, head []byte) error {
	what := "it does not begin with GGUF"
	if strings.HasPrefix(contentType, "text/") || strings.HasPrefix(strings.TrimSpace(string(head)), "<") {
		what = "the server sent a page of text"
	}
	if strings.Contains(u.Path, "/blob/") {
		return &FormatError{shown(u), what + "; a hub serves files under /resolve/ where its pages have /blob/"}
	}
	return &FormatError{shown(u), what + "; open the address in a browser, it may want a login or name a page instead of a .gguf file"}
}
