package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// retryPolicy says how long a server is believed in.
type retryPolicy struct {
	tries     int           // in a row that bring nothing new
	pause     time.Duration // before the second try; doubles with each further one
	longest   time.Duration // of a pause of our own
	patience  time.Duration // with a server's Retry-After; a longer one ends the pull
	stall     time.Duration // without a byte, after which a connection is given up
	something int64         // bytes that count as something new
}

var defaultRetry = retryPolicy{
	tries: 5, pause: 500 * time.Millisecond, longest: 15 * time.Second, patience: time.Minute, stall: time.Minute, something: 64 << 10,
}

var errStalled = errors.New("the connection brought nothing for too long")

// transientError may be gone at the next try.
type transientError struct {
	err   error
	after time.Duration // 0 = the policy's pause
}

func (e *transientError) Error() string { return e.err.Error() }

func (e *transientError) Unwrap() error { return e.err }

// try calls f until it succeeds, fails for good, or has failed too often without have() growing.
func (p *puller) try(ctx context.Context, u *url.URL, have func() int64, f func() error) error {
	best, fails, pause := have(), 0, p.retry.pause
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var t *transientError
		if !errors.As(err, &t) {
			return err
		}
		fails++
		if n := have(); n >= best+p.retry.something {
			best, fails, pause = n, 0, p.retry.pause
		}
		if fails >= p.retry.tries || t.after > p.retry.patience {
			if errors.Is(t.err, ErrUnavailable) {
				return t.err
			}
			return fmt.Errorf("%s: %w: %w; check the network and pull again: what has come is kept", shown(u), ErrUnavailable, t.err)
		}
		// The jitter keeps many clients of a restarted server from coming back at once.
		if err := sleep(ctx, max(t.after, pause/2+rand.N(pause/2+1))); err != nil {
			return err
		}
		pause = min(2*pause, p.retry.longest)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// requestError sorts the errors of http.Client.Do. They carry the whole URL, which must not be shown.
func requestError(u *url.URL, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrInsecure), errors.Is(err, ErrRef), errors.Is(err, ErrUnavailable):
		return err
	case errors.As(err, &cert):
		return fmt.Errorf("%s: %w: %w", shown(u), ErrInsecure, err)
	}
	return &transientError{err: err}
}

// statusError sorts the answers that are no success.
func statusError(u *url.URL, resp *http.Response) error {
	e := &StatusError{URL: shown(u), Code: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &transientError{err: e, after: e.RetryAfter}
	}
	return e
}

// retryAfter reads the header in both its forms, seconds and a date.
func retryAfter(s string) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
