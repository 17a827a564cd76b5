package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// service is the 'lm-sandbox serve' of one script, kept in the values of its Env.
type service struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{} // closed when stderr has ended
}

type serviceKey struct{}

// scriptServe is "serve [ARG...]": it starts 'lm-sandbox serve' and sets $URL to the
// address that it prints.
func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("serve cannot be negated")
	}
	s := ts.Value(serviceKey{}).(*service)
	s.cmd = exec.Command("lm-sandbox", append([]string{"serve"}, args...)...)
	s.done = make(chan struct{})
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "LM_SANDBOX_MODEL", "LM_SANDBOX_KEY", "OLLAMA_URL", "OLLAMA_MODEL"} {
		if v := ts.Getenv(name); v != "" {
			s.cmd.Env = append(s.cmd.Env, name+"="+v)
		}
	}
	pipe, err := s.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	ts.Defer(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill()
			<-s.done
			_ = s.cmd.Wait()
		}
	})
	address := make(chan string, 1)
	go func() {
		defer close(s.done)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			_, _ = fmt.Fprintln(&s.stderr, lines.Text())
			if _, url, ok := strings.Cut(lines.Text(), "listening on "); ok && len(address) == 0 {
				address <- url
			}
		}
	}()
	select {
	case url := <-address:
		ts.Setenv("URL", url)
	case <-s.done:
		ts.Fatalf("serve ended: %s", &s.stderr)
	case <-time.After(2 * time.Minute):
		ts.Fatalf("serve does not listen")
	}
}

// scriptEnd is "end SIGNAL CODE": the service ends with that exit code when it gets
// that signal (INT or TERM); what it wrote to stderr is then what stderr looks at.
func scriptEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: end SIGNAL CODE")
	}
	sig, ok := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	s := ts.Value(serviceKey{}).(*service)
	ts.Check(s.cmd.Process.Signal(sig))
	<-s.done
	_ = s.cmd.Wait() // the state says it all
	_, _ = s.stderr.WriteTo(ts.Stderr())
	if got := strconv.Itoa(s.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("exit code %s, want %s", got, args[1])
	}
}

// scriptHTTP is "http CODE METHOD PATH [BODY [HEADER...]]": the service answers the request
// with that status; its body is then what stdout looks at. BODY "-" is none. A HEADER
// is "Name: value"; Content-Type is application/json unless one says otherwise.
func scriptHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: http CODE METHOD PATH [BODY [HEADER...]]")
	}
	var body io.Reader
	if len(args) > 3 && args[3] != "-" {
		body = strings.NewReader(args[3])
	}
	req, err := http.NewRequest(args[1], ts.Getenv("URL")+args[2], body)
	ts.Check(err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if len(args) > 4 {
		for _, h := range args[4:] {
			name, value, _ := strings.Cut(h, ": ")
			if name == "Host" {
				req.Host = value
			}
			req.Header.Set(name, value)
		}
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: 2 * time.Minute}).Do(req)
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
	if got := strconv.Itoa(resp.StatusCode); got != args[0] {
		ts.Fatalf("status %s, want %s", got, args[0])
	}
}
