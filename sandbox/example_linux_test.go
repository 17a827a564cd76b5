package sandbox_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func ExampleRun() {
	r, err := sandbox.Run(context.Background(), sandbox.Config{}, "echo $((6*7)); whoami; cat /etc/shadow")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("exit code %d\n%s%s", r.ExitCode, r.Stdout, r.Stderr)
	// Output:
	// exit code 1
	// 42
	// user
	// cat: /etc/shadow: No such file or directory
}

func ExampleRun_limits() {
	c := sandbox.Config{Limits: sandbox.Limits{Wall: 200 * time.Millisecond}}
	r, err := sandbox.Run(context.Background(), c, "sleep 1000")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Limit, r.Signal, r.ExitCode)
	// Output: timeout SIGKILL 137
}

func ExampleAllowList() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "this is", r.Host) }))
	defer server.Close()
	c := sandbox.Config{Net: sandbox.NetAllowList, Allow: sandbox.AllowList{
		Rules: []string{"example.com", "*.example.org:443"},
		// Without these two the host's resolver and network are used.
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.32.8")}, nil
		},
		Dial: func(context.Context, netip.AddrPort) (net.Conn, error) {
			return net.Dial("tcp", server.Listener.Addr().String())
		},
	}}
	r, err := sandbox.Run(context.Background(), c, "curl -s http://example.com/; curl -s http://example.net/")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", r.Stdout)
	for _, n := range r.Net {
		fmt.Printf("%s %d allowed=%t %s\n", n.Host, n.Port, n.Allowed, cmp.Or(n.Reason, n.Rule))
	}
	// Output:
	// this is example.com
	// lm-sandbox: example.net:80: no rule allows it
	// example.com 80 allowed=true example.com
	// example.net 80 allowed=false no rule allows it
}

func ExampleRun_workspace() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if _, err := sandbox.Run(context.Background(), sandbox.Config{Workspace: dir}, "echo hello > file"); err != nil {
		log.Fatal(err)
	}
	b, err := os.ReadFile(dir + "/file")
	fmt.Println(string(b), err)
	// Output:
	// hello
	//  <nil>
}

func ExampleRun_errors() {
	_, err := sandbox.Run(context.Background(), sandbox.Config{Dir: "elsewhere"}, "true")
	var config *sandbox.ErrConfig
	fmt.Println(errors.As(err, &config), err)
	// Output: true sandbox: Dir: "elsewhere" is not absolute
}

func ExampleStart() {
	c := sandbox.Config{Stdin: strings.NewReader("c\na\nb\n"), Stdout: os.Stdout}
	p, err := sandbox.Start(context.Background(), c, "sort", "-r")
	if err != nil {
		log.Fatal(err)
	}
	r, err := p.Wait()
	fmt.Println(r.ExitCode, err)
	// Output:
	// c
	// b
	// a
	// 0 <nil>
}

func ExampleSession() {
	ctx := context.Background()
	s, err := sandbox.NewSession(ctx, sandbox.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for _, command := range []string{"cd /tmp; x=42", "echo $x; tty", "exit 3", "true"} {
		r, err := s.Exec(ctx, command)
		fmt.Printf("%s%s %v\n", r.Stdout, r.Dir, err)
	}
	// Output:
	// /tmp <nil>
	// 42
	// /dev/pts/0
	// /tmp <nil>
	//  sandbox: the shell of the session has ended with exit code 3; start a new session
	//  sandbox: the shell of the session has ended with exit code 3; start a new session
}
