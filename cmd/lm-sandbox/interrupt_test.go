package main

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
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
