package hub

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options says where models are kept and how they are fetched. The zero value is good.
type Options struct {
	Dir      string         // the cache; "" = ${XDG_CACHE_HOME:-~/.cache}/lm-sandbox/models
	Progress func(Progress) // nil = none; called by one goroutine at a time, at most ten times a second
	Client   *http.Client   // nil = one of our own; its redirects are checked in any case
	Endpoint string         // of the hub; "" = $HF_ENDPOINT, else https://huggingface.co
}

// Progress is how far a pull has come.
type Progress struct {
	Ref         string // as given to Pull
	Done, Total int64  // bytes fetched and to be fetched; Total 0 = unknown. Done falls when a source forces a new start
}

// Model is a model on this machine.
type Model struct {
	Name    string    // of the file, without .gguf
	Ref     string    // what Pull was given for it, without the query of a URL
	Path    string    // of the GGUF file; of the first part where it is split
	SHA256  string    // of the file at Path, in hexadecimal; "" for a path that was given to Pull
	Source  string    // the URL or the Python packages it came from; "" for a path that was given to Pull
	Size    int64     // in bytes, all parts together
	Files   []File    // all parts, in order
	License string    // where it is known
	Time    time.Time // when it was pulled, or of the last change of a path
}

// File is one file of a model.
type File struct {
	Path   string
	Size   int64
	SHA256 string
}

// Pull brings the model that ref names into the cache, unless it is there, and returns it. A reference is one of
//
//   - "" or "default": SmolLM2 135M Instruct, Q4_1 (98 MB, Apache-2.0)
//   - "gemma3-270m": Gemma 3 270M, Q4_K_M (253 MB; its use is bound to the Gemma Terms of Use)
//   - hf:OWNER/REPO, hf:OWNER/REPO:FILE or hf:OWNER/REPO:QUANT: a GGUF model of the hub, all parts of it where it is split.
//     $HF_TOKEN, where set, is shown to the hub and to nobody else
//   - an https:// URL of a GGUF file (http:// only of a loopback address)
//   - a path of a GGUF file, which is checked and returned as it is
//
// What is in the cache is returned at once, by size and time of change, without a network and without hashing it again:
// Verify does that. A hub repository or a URL that changed since is not fetched again.
//
// A pull that was cut short, by the network, by ctx or by a kill, leaves what it has; the next one goes on from there.
// Several goroutines and processes may pull the same model into the same directory: one works, the others wait and find it.
//
// # Errors
//
// ErrRef, ErrNotFound, ErrAccess, ErrAmbiguous, ErrModelFormat, ErrChecksum, ErrDiskFull, ErrInsecure, ErrUnavailable, ErrPip,
// and the error of ctx or of the file system.
func Pull(ctx context.Context, ref string, o Options) (Model, error) {
	m, err := pull(ctx, ref, o)
	if err != nil {
		return Model{}, fmt.Errorf("hub: %w", err)
	}
	return m, nil
}

func pull(ctx context.Context, ref string, o Options) (Model, error) {
	if err := ctx.Err(); err != nil {
		return Model{}, err
	}
	r, err := parseRef(ref)
	if err != nil {
		return Model{}, err
	}
	if r.path != "" {
		return localModel(r.path)
	}
	p, err := newPuller(o, ref)
	if err != nil {
		return Model{}, err
	}
	defer p.close()
	return p.pull(ctx, r)
}

// localModel is a model outside the cache.
func localModel(path string) (Model, error) {
	st, err := os.Stat(path)
	if err != nil {
		if os.IsNotExist(err) {
			return Model{}, &missingFileError{path, err}
		}
		return Model{}, err
	}
	if !st.Mode().IsRegular() {
		return Model{}, &FormatError{path, "it is not a regular file; give the path of a .gguf file"}
	}
	if err := checkFile(path); err != nil {
		return Model{}, err
	}
	return Model{
		Name: modelName(path), Ref: path, Path: path, Size: st.Size(), Time: st.ModTime(),
		Files: []File{{Path: path, Size: st.Size()}},
	}, nil
}

// missingFileError is ErrNotFound and fs.ErrNotExist.
type missingFileError struct {
	path string
	err  error
}

func (e *missingFileError) Error() string {
	return e.path + ": no such file; a model is default, gemma3-270m, a path, an https:// URL or hf:OWNER/REPO[:FILE|QUANT]"
}

func (e *missingFileError) Is(target error) bool { return target == ErrNotFound }

func (e *missingFileError) Unwrap() error { return e.err }

func modelName(path string) string {
	n := filepath.Base(path)
	if ext := filepath.Ext(n); strings.EqualFold(ext, ".gguf") {
		n = n[:len(n)-len(ext)]
	}
	return n
}

// cacheDir is where models live unless Options says otherwise.
func cacheDir() (string, error) {
	base := os.Getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(base) { // the XDG specification says to ignore a relative one
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no cache directory: %w; set XDG_CACHE_HOME", err)
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "lm-sandbox", "models"), nil
}
