package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// List returns the models of the cache, sorted by reference. What cannot be used, because a file or the note about it was
// damaged, is left out and told in the error, beside the models that can: a new pull repairs it. Pulls that were cut short are
// no models yet and no errors. A cache that does not exist is empty. Only o.Dir is used.
func List(o Options) ([]Model, error) {
	models, err := list(o)
	if err != nil {
		return models, fmt.Errorf("hub: %w", err)
	}
	return models, nil
}

func list(o Options) ([]Model, error) {
	root := o.Dir
	if root == "" {
		var err error
		if root, err = cacheDir(); err != nil {
			return nil, err
		}
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var models []Model
	var bad []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(root, e.Name())
		man, err := readManifest(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = man.check(dir)
		}
		if err != nil {
			bad = append(bad, err)
			continue
		}
		models = append(models, man.model(dir))
	}
	slices.SortFunc(models, func(a, b Model) int { return cmp.Compare(a.Ref, b.Ref) })
	return models, errors.Join(bad...)
}

// Verify hashes the files of m again and compares them with what was pulled. A model that was given as a path has nothing to
// compare with: ErrRef.
//
// # Errors
//
// ErrChecksum, ErrRef, and the error of ctx or of the file system.
func Verify(ctx context.Context, m Model) error {
	if m.SHA256 == "" {
		return fmt.Errorf("hub: %w", &RefError{m.Path, "nothing is known to compare it with"})
	}
	for _, f := range m.Files {
		got, err := hashFile(ctx, f.Path)
		if err != nil {
			return fmt.Errorf("hub: %w", err)
		}
		if got != f.SHA256 {
			return fmt.Errorf("hub: %w; remove it first", &ChecksumError{File: f.Path, Want: f.SHA256, Got: got})
		}
	}
	return nil
}
