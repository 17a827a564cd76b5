package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	manifestName = "manifest.json"
	lockName     = ".lock"
)

// manifest lies beside the files of a model and says that they are whole.
type manifest struct {
	Name    string         `json:"name"`
	Ref     string         `json:"ref"`
	Refs    []string       `json:"refs"` // all references that led here
	Source  string         `json:"source"`
	License string         `json:"license,omitempty"`
	Time    time.Time      `json:"time"`
	Files   []manifestFile `json:"files"`
}

type manifestFile struct {
	Name     string `json:"name"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // of the file, in ns since 1970: with the size, it stands for the bytes
	SHA256   string `json:"sha256"`
}

func readManifest(dir string) (*manifest, error) {
	path := filepath.Join(dir, manifestName)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var man manifest
	if err := json.Unmarshal(b, &man); err != nil {
		return nil, fmt.Errorf("%s: %w; pull the model again", path, err)
	}
	if len(man.Files) == 0 {
		return nil, fmt.Errorf("%s: it names no file; pull the model again", path)
	}
	for _, f := range man.Files {
		if f.Name != fileName(f.Name) { // never follow a name out of the directory
			return nil, fmt.Errorf("%s: it names the file %q; pull the model again", path, f.Name)
		}
	}
	return &man, nil
}

// check reports, from sizes and times alone, whether the files in dir are those of the manifest.
func (man *manifest) check(dir string) error {
	for _, f := range man.Files {
		path := filepath.Join(dir, f.Name)
		st, err := os.Lstat(path)
		if err != nil {
			return fmt.Errorf("%w; pull the model again", err)
		}
		if st.Size() != f.Size || st.ModTime().UnixNano() != f.Modified {
			return fmt.Errorf("%s: it has changed since it was pulled; pull the model again", path)
		}
	}
	return nil
}

func (man *manifest) addRef(ref string) {
	if !slices.Contains(man.Refs, ref) {
		man.Refs = append(man.Refs, ref)
	}
}

func (man *manifest) save(dir string) error {
	b, err := json.MarshalIndent(man, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, manifestName), append(b, '\n'))
}

// sweep removes what pulls that failed or were killed have left in dir.
func (man *manifest) sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		keep := e.Name() == manifestName || e.Name() == lockName ||
			slices.ContainsFunc(man.Files, func(f manifestFile) bool { return f.Name == e.Name() })
		if !keep {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (man *manifest) model(dir string) Model {
	m := Model{Name: man.Name, Ref: man.Ref, Source: man.Source, License: man.License, Time: man.Time}
	for _, f := range man.Files {
		m.Files = append(m.Files, File{Path: filepath.Join(dir, f.Name), Size: f.Size, SHA256: f.SHA256})
		m.Size += f.Size
	}
	m.Path, m.SHA256 = m.Files[0].Path, m.Files[0].SHA256
	return m
}

// cached finds a model that is whole by its reference, without a network or a lock: manifests appear by rename.
func (p *puller) cached(r reference) (Model, bool) {
	match := func(dir string) (Model, bool) {
		man, err := readManifest(dir)
		if err != nil || man.check(dir) != nil {
			return Model{}, false
		}
		if r.known != nil && man.Files[0].SHA256 != r.known.sha256 {
			return Model{}, false
		}
		return man.model(dir), r.repo == "" || slices.Contains(man.Refs, r.text)
	}
	switch {
	case r.known != nil:
		return match(filepath.Join(p.dir, r.known.dir))
	case r.url != nil:
		return match(filepath.Join(p.dir, urlDir(r.url)))
	}
	dirs, err := filepath.Glob(filepath.Join(globEscape(p.dir), hubDirs+"*"))
	if err != nil {
		return Model{}, false
	}
	for _, dir := range dirs {
		if m, ok := match(dir); ok {
			return m, true
		}
	}
	return Model{}, false
}

// kept finds out, under the lock, whether the files of t are in dir already: another process may have brought them, or the
// manifest was lost, or their times have changed, which costs a hash. It returns nil where something is to be fetched.
func (p *puller) kept(ctx context.Context, dir string, t *target) (*manifest, error) {
	man, err := readManifest(dir)
	if err == nil && man.check(dir) == nil && man.covers(t) {
		return man, nil
	}
	var sums []string
	for i, f := range t.files {
		want := f.sha256
		if want == "" && err == nil && i < len(man.Files) && man.Files[i].Name == f.name {
			want = man.Files[i].SHA256
		}
		if want == "" {
			return nil, nil
		}
		got, err := hashFile(ctx, filepath.Join(dir, f.name))
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist), err == nil && got != want:
			return nil, nil
		case err != nil:
			return nil, err
		}
		sums = append(sums, got)
	}
	source := t.source
	if err == nil {
		source = man.Source
	}
	return newManifest(dir, t, source, sums)
}

// covers reports whether the files of man are those that t asks for.
func (man *manifest) covers(t *target) bool {
	return slices.EqualFunc(man.Files, t.files, func(have manifestFile, want remote) bool {
		return have.Name == want.name && (want.sha256 == "" || have.SHA256 == want.sha256)
	})
}
