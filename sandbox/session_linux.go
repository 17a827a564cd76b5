package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// driver is the loop that takes commands from its input and answers on its output.
const driver = `exec 253<&0 254>&1 </dev/null
while read -r -N 8 -u 253 n && read -r -N "$((10#$n))" -u 253 c; do
eval "$c" 253<&- 254>&- >/tmp/.stdout 2>/tmp/.stderr
s=$?
{ printf '%d %d %d %s\0' $s $(stat -c %s /tmp/.stdout /tmp/.stderr) "$(pwd -P)"; cat /tmp/.stdout /tmp/.stderr; } >&254
done`

type session struct {
	process *Process
	limits  Limits
	in      *io.PipeWriter
	out     *bufio.Reader
	turn    chan struct{}
	once    sync.Once
}

func newSession(ctx context.Context, c Config) (*session, error) {
	limits, err := c.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c.Stdin, c.Stdout, c.Limits.Wall = inR, outW, 1<<62
	p, err := Start(context.WithoutCancel(ctx), c, "/bin/bash", "--norc", "-c", driver)
	if err != nil {
		return nil, err
	}
	s := &session{process: p, limits: limits, in: inW, out: bufio.NewReader(outR), turn: make(chan struct{}, 1)}
	go func() {
		_, _ = p.Wait()
		_ = outW.Close()
		_ = inR.Close()
	}()
	return s, nil
}

func (s *session) exec(ctx context.Context, command string) (ExecResult, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ExecResult{}, fmt.Errorf("sandbox: %w", ctx.Err())
	}
	defer func() { <-s.turn }()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.limits.Wall)
	defer cancel()
	defer context.AfterFunc(ctx, s.process.Kill)()
	_, err := fmt.Fprintf(s.in, "%08d%s", len([]rune(command)), command)
	var head string
	if err == nil {
		head, err = s.out.ReadString(0)
	}
	if err != nil {
		r, _ := s.process.Wait()
		return ExecResult{}, errors.Join(&ErrShellExited{r.ExitCode, r.Signal, r.Limit}, ctx.Err())
	}
	var r ExecResult
	var n [2]int
	if _, err := fmt.Sscanf(head, "%d %d %d %s", &r.ExitCode, &n[0], &n[1], &r.Dir); err != nil {
		return r, err
	}
	r.Dir = r.Dir[:len(r.Dir)-1]
	r.Stdout, r.Stderr = make([]byte, n[0]), make([]byte, n[1])
	for _, b := range [][]byte{r.Stdout, r.Stderr} {
		if _, err := io.ReadFull(s.out, b); err != nil {
			return r, err
		}
	}
	r.Duration = time.Since(begin)
	return r, nil
}

func (s *session) read([]byte) (int, error)      { return 0, ErrUnsupported }
func (s *session) write([]byte) (int, error)     { return 0, ErrUnsupported }
func (s *session) resize(_, _ uint16) error      { return ErrUnsupported }
func (s *session) signal(_ syscall.Signal) error { return ErrUnsupported }

func (s *session) close() error {
	s.process.Kill()
	_, _ = s.process.Wait()
	return nil
}
