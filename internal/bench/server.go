package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// setting is a server program with its arguments.
type setting struct {
	name   string
	argv   []string                   // without the address
	listen func(port string) []string // the arguments of the address
}

// server is a running one.
type server struct {
	setting setting
	url     string
	ready   time.Duration // from the start of the process until it can answer
	cmd     *exec.Cmd
	log     bytes.Buffer
	ended   chan struct{}
	err     error
}

const startTimeout = time.Minute

// startServer starts it and waits until it is healthy.
func startServer(ctx context.Context, s setting) (*server, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	argv := append(append([]string(nil), s.argv...), s.listen(port)...)
	v := &server{setting: s, url: "http://127.0.0.1:" + port, ended: make(chan struct{})}
	v.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	v.cmd.Stdout, v.cmd.Stderr = &v.log, &v.log
	v.cmd.Cancel = func() error { return v.cmd.Process.Signal(syscall.SIGTERM) }
	v.cmd.WaitDelay = 15 * time.Second
	start := time.Now()
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		v.err = v.cmd.Wait()
		close(v.ended)
	}()
	for time.Since(start) < startTimeout {
		if healthy(ctx, v.url) {
			v.ready = time.Since(start)
			return v, nil
		}
		select {
		case <-v.ended:
			return nil, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), v.err, tail(v.log.Bytes()))
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), v.stop())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil, errors.Join(fmt.Errorf("%s: not healthy after %v", strings.Join(argv, " "), startTimeout), v.stop())
}

// stop ends the process and waits for it. How it ends does not matter: it has
// answered what it was asked.
func (v *server) stop() error {
	err := v.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-v.ended:
		return nil
	case <-time.After(10 * time.Second):
	}
	err = errors.Join(err, v.cmd.Process.Kill())
	<-v.ended
	return err
}

// memory is the proportional set size of the process and of those it started, in
// bytes: pages that are shared with others count in part.
func (v *server) memory() (int, error) {
	below, err := descendants(v.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	total := 0
	for _, p := range append(below, process{pid: v.cmd.Process.Pid}) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if err != nil {
			return 0, err
		}
		n, err := parsePss(data)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func parsePss(rollup []byte) (int, error) {
	for line := range strings.Lines(string(rollup)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kb << 10, err
		}
	}
	return 0, errors.New("smaps_rollup has no Pss")
}

func healthy(ctx context.Context, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, errors.Join(err, ln.Close())
}

// tail is the end of a log, for an error.
func tail(log []byte) []byte { return log[max(0, len(log)-2000):] }
