package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// At most MaxSandboxes commands run at once and MaxSandboxQueue wait; the next is told
// to come back.
func TestRunBashIsBounded(t *testing.T) {
	var running, most atomic.Int64
	release := make(chan struct{})
	s := runs(newServer(t, Options{MaxSandboxes: 2, MaxSandboxQueue: 3}), func(context.Context, sandbox.Config, string) (sandbox.Result, error) {
		now := running.Add(1)
		defer running.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		<-release
		return sandbox.Result{}, nil
	})
	url := start(t, s) + "/run-bash/"
	statuses := make([]int, 5)
	var clients sync.WaitGroup
	for i := range statuses {
		clients.Go(func() { statuses[i] = post(t, url, `{"cmd":"true"}`).status })
	}
	require.Eventually(t, func() bool { return s.bash.gate.present.Load() == 5 && running.Load() == 2 }, 10*time.Second, time.Millisecond)
	late := post(t, url, `{"cmd":"true"}`)
	require.Equal(t, 429, late.status)
	assert.Equal(t, "1", late.header.Get("Retry-After"))
	assert.Equal(t, "rate_limit_error", late.failure(t).Type)
	close(release)
	clients.Wait()
	assert.Equal(t, []int{200, 200, 200, 200, 200}, statuses)
	assert.EqualValues(t, 2, most.Load())
	assert.Zero(t, s.bash.gate.present.Load())
	assert.Equal(t, 200, post(t, url, `{"cmd":"true"}`).status, "the turns are given back")
}

// A client that leaves while it waits gives its place up.
func TestRunBashClientLeavesQueue(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{})
	s := runs(newServer(t, Options{MaxSandboxes: 1}), func(context.Context, sandbox.Config, string) (sandbox.Result, error) {
		<-release
		return sandbox.Result{}, nil
	})
	url := start(t, s) + "/run-bash/"
	first := make(chan answer, 1)
	go func() { first <- post(t, url, `{"cmd":"true"}`) }()
	present := func(n int64) func() bool { return func() bool { return s.bash.gate.present.Load() == n } }
	require.Eventually(t, present(1), 10*time.Second, time.Millisecond)
	left := make(chan struct{})
	go func() {
		defer close(left)
		leaveAfter(t, url, `{"cmd":"true"}`, arrived)
	}()
	require.Eventually(t, present(2), 10*time.Second, time.Millisecond)
	close(arrived)
	<-left
	require.Eventually(t, present(1), 10*time.Second, time.Millisecond)
	close(release)
	assert.Equal(t, 200, (<-first).status)
}

// Every command gets the operator's configuration; the request has no say.
func TestRunBashConfigIsFixed(t *testing.T) {
	want := sandbox.Config{Workspace: "/srv/work", Limits: sandbox.Limits{Memory: 7 << 20}}
	var got sandbox.Config
	s := runs(newServer(t, Options{Sandbox: want}), func(_ context.Context, c sandbox.Config, _ string) (sandbox.Result, error) {
		got = c
		return sandbox.Result{}, nil
	})
	url := start(t, s) + "/run-bash/"
	require.Equal(t, 200, post(t, url, `{"cmd":"true","workspace":"/","Workspace":"/","limits":{"memory":1},"config":{"Root":"/"},"net":"host"}`).status)
	assert.Equal(t, want, got)
}

// A client learns what to do about a host that has no sandboxes, and no path of any host.
func TestRunBashCannotRun(t *testing.T) {
	const secret = "/srv/secret"
	for _, test := range []struct {
		err    error
		remedy string
	}{
		{&sandbox.ErrUserNamespace{Reason: secret, Remedy: "set the sysctl", Err: syscall.EPERM}, "set the sysctl"},
		{&sandbox.ErrLevel{Reason: secret, Remedy: "delegate a group", Err: errors.New(secret)}, "delegate a group"},
		{&sandbox.ErrOwner{Path: secret, Remedy: "give it away", Err: syscall.EINVAL}, ""},
		{&sandbox.ErrSetup{Stage: "mount", Detail: secret, Err: syscall.EIO}, ""},
		{&sandbox.ErrConfig{Field: "Binds[0].Source", Reason: secret}, ""},
		{&sandbox.ErrExec{Path: secret, Err: syscall.ENOENT}, ""},
		{&sandbox.ErrOverlay{Path: secret, Remedy: secret}, ""},
		{&sandbox.ErrDevice{Path: secret, Remedy: secret, Err: syscall.EACCES}, ""},
		{fmt.Errorf("sandbox: %s: %w", secret, errors.ErrUnsupported), ""},
	} {
		var log bytes.Buffer
		s := runs(newServer(t, Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))}), func(context.Context, sandbox.Config, string) (sandbox.Result, error) {
			return sandbox.Result{}, test.err
		})
		got := post(t, start(t, s)+"/run-bash/", `{"cmd":"true"}`)
		require.Equal(t, 500, got.status)
		failure := got.failure(t)
		assert.Equal(t, "sandbox_unavailable", failure.Code)
		assert.Contains(t, failure.Message, test.remedy)
		assert.NotContains(t, failure.Message, secret, "%T", test.err)
		require.Eventually(t, func() bool { return strings.Contains(log.String(), "request failed") }, 10*time.Second, time.Millisecond)
		assert.Contains(t, log.String(), secret, "%T: the operator learns it", test.err)
		assert.Contains(t, log.String(), got.header.Get("X-Request-Id"))
	}
}

// Nothing of a command leaves the service that is not on record; records name the client.
func TestRunBashAudit(t *testing.T) {
	var log bytes.Buffer
	s := runs(newServer(t, Options{Sandbox: sandbox.Config{Audit: WithClient(slog.NewJSONHandler(&log, nil))}}),
		func(ctx context.Context, c sandbox.Config, _ string) (sandbox.Result, error) {
			require.NoError(t, c.Audit.Handle(ctx, slog.Record{}))
			return sandbox.Result{Stdout: []byte("shown")}, &sandbox.ErrAudit{Path: "/srv/audit.jsonl", Err: syscall.ENOSPC}
		})
	got := post(t, start(t, s)+"/run-bash/", `{"cmd":"true"}`)
	require.Equal(t, 500, got.status)
	failure := got.failure(t)
	assert.Equal(t, "audit_failed", failure.Code)
	assert.NotContains(t, failure.Message, "shown")
	assert.NotContains(t, failure.Message, "/srv")
	assert.Contains(t, log.String(), `"client":"127.0.0.1:`)
}
