package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/cmd/lm-sandbox/internal/server"
)

// Beyond loopback there is always a key: the one given, else a new one each time.
func TestServeKey(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:8000", "[::1]:8000", "localhost:8000"} {
		if key, made, err := serveKey(addr, ""); key != "" || made || err != nil {
			t.Errorf("%s: %q, %v, %v", addr, key, made, err)
		}
	}
	seen := map[string]bool{}
	for _, addr := range []string{"0.0.0.0:8000", ":8000", "[::]:8000", "192.0.2.1:8000"} {
		key, made, err := serveKey(addr, "")
		if !made || err != nil || seen[key] || len(key) < 20 {
			t.Errorf("%s: %q, %v, %v", addr, key, made, err)
		}
		seen[key] = true
		if err := server.CheckKey(addr, key); err != nil {
			t.Errorf("%s: its own key is refused: %v", addr, err)
		}
		if key, made, err := serveKey(addr, "given"); key != "given" || made || err != nil {
			t.Errorf("%s: %q, %v, %v", addr, key, made, err)
		}
	}
	if _, _, err := serveKey("0.0.0.0:8000", "a b"); err == nil || errors.Is(err, server.ErrKeyRequired) || !strings.Contains(err.Error(), "Key") {
		t.Errorf("a bad key: %v", err)
	}
}
