package engine

import "time"

// backoff keeps processes that die at once from being started again and again: after
// four in a row nobody may start another for a second, then two, four, to a minute.
type backoff struct {
	crashes int
	until   time.Time
	err     error // what the last one died of
}

const (
	freeCrashes  = 4
	mostBackoff  = time.Minute
	healthyAfter = time.Minute
)

// add books the death at now of a process that was started at began.
func (b *backoff) add(began, now time.Time, err error) {
	if now.Sub(began) >= healthyAfter {
		b.crashes = 0
	}
	b.crashes++
	b.err = err
	b.until = now
	if n := b.crashes - freeCrashes; n > 0 {
		b.until = now.Add(min(time.Second<<min(n-1, 16), mostBackoff))
	}
}

// refused is the error of a start at now; nil = it may be tried.
func (b *backoff) refused(now time.Time) error {
	if now.Before(b.until) {
		return b.err
	}
	return nil
}
