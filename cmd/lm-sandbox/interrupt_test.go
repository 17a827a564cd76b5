package main

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// signalCodes are the signals that end a command in order, and the exit code of each.
var signalCodes = map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143}

func TestModelPullInterrupted(t *testing.T) {
	for signal, code := range signalCodes {
		t.Run(signal.String(), func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			asked := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				close(asked)
				<-r.Context().Done()
			}))
			defer server.Close()

			c := start(t, "model", "pull", server.URL+"/m.gguf")
			<-asked
			c.signal(signal)
			if got := c.wait(); got != code {
				t.Errorf("exit code %d, want %d", got, code)
			}
			if c.stderr.Len() > 0 {
				t.Errorf("stderr: %s", &c.stderr)
			}
		})
	}
}

func TestRunInterrupted(t *testing.T) {
	for signal, code := range signalCodes {
		t.Run(signal.String(), func(t *testing.T) {
			c := start(t, "run", "--raw", "-p", "Count: 1 2 3 4 5", "-n", "0", "--ignore-eos", "--temp", "0")
			c.read(" ") // what came is printed at once
			c.signal(signal)
			if got := c.wait(); got != code {
				t.Errorf("exit code %d, want %d", got, code)
			}
			if c.stderr.Len() > 0 {
				t.Errorf("stderr: %s", &c.stderr)
			}
		})
	}
}

// A prompt that does not come can be given up.
func TestRunInterruptedBeforePrompt(t *testing.T) {
	c := start(t, "run")
	if _, err := c.stdin.WriteString("half a pro"); err != nil {
		t.Fatal(err)
	}
	for { // until it was read
		unread, err := unix.IoctlGetInt(int(c.stdin.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if unread == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c.signal(syscall.SIGINT)
	if code := c.wait(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	if c.stderr.Len() > 0 {
		t.Errorf("stderr: %s", &c.stderr)
	}
}

func TestBashLeavesNothing(t *testing.T) {
	tests := []struct {
		name, command string
		end           func(c *cli)
		code          int
	}{
		{
			name:    "disowned",
			command: "setsid sleep 300 & disown; echo ready; read",
			end:     func(c *cli) { _ = c.stdin.Close() },
			code:    1, // of read, at the end of stdin
		},
		{
			name:    "kill -9",
			command: "sleep 300 & echo ready; wait",
			end:     func(c *cli) { c.signal(syscall.SIGKILL) },
			code:    137,
		},
		{
			name:    "interrupt",
			command: "trap '' INT TERM; sleep 300 & echo ready; wait",
			end:     func(c *cli) { c.signal(syscall.SIGINT) },
			code:    130,
		},
		{
			name:    "terminate",
			command: "trap '' INT TERM; sleep 300 & echo ready; wait",
			end:     func(c *cli) { c.signal(syscall.SIGTERM) },
			code:    143,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, "bash", "-c", tt.command)
			c.read("ready\n")
			started := c.awaitDescendant("sleep")
			tt.end(c)
			if code := c.wait(); code != tt.code {
				t.Errorf("exit code %d, want %d; stderr: %s", code, tt.code, &c.stderr)
			}
			if c.stderr.Len() > 0 {
				t.Errorf("stderr: %s", &c.stderr)
			}
			wantDead(t, started)
		})
	}
}

// A service that is killed takes the commands that it runs with it.
func TestKilledServeLeavesNothing(t *testing.T) {
	c := &cli{t: t, cmd: exec.Command("lm-sandbox", "serve", "--addr", "127.0.0.1:0")}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	c.stdout = stderr
	c.read("listening on ")
	url := strings.TrimSpace(c.read("\n"))

	answered := make(chan error, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Post(url+"/run-bash/", "application/json", strings.NewReader(`{"cmd":"setsid sleep 300 & wait"}`))
		if err == nil {
			err = resp.Body.Close()
		}
		answered <- err
	}()
	started := c.awaitDescendant("sleep")
	c.signal(syscall.SIGKILL)
	if code := c.wait(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	wantDead(t, started)
	if err := <-answered; err == nil {
		t.Error("the request was answered")
	}
}
