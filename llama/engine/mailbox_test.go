package engine

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMailboxMergesWhatIsNotTaken(t *testing.T) {
	m := newMailbox[[]int]()
	_, ok, closed := m.take(nil)
	require.False(t, ok)
	require.False(t, closed)

	for i := range 3 {
		m.put(func(v *[]int) bool { *v = append(*v, i); return true })
	}
	<-m.ready
	v, ok, closed := m.take(nil)
	require.Equal(t, []int{0, 1, 2}, v)
	require.True(t, ok)
	require.False(t, closed)

	m.put(func(*[]int) bool { return false })
	require.Empty(t, m.ready)
	_, ok, _ = m.take(nil)
	require.False(t, ok)

	m.put(func(v *[]int) bool { *v = append(*v, 3); return true })
	m.close()
	<-m.ready
	v, ok, closed = m.take(nil)
	require.Equal(t, []int{3}, v)
	require.True(t, ok)
	require.True(t, closed)
}

func TestMailboxLosesNothingUnderLoad(t *testing.T) {
	const n = 10000
	m := newMailbox[[]int]()
	go func() {
		for i := range n {
			m.put(func(v *[]int) bool { *v = append(*v, i); return true })
		}
		m.close()
	}()
	next := 0
	for closed := false; !closed; {
		<-m.ready
		var v []int
		v, _, closed = m.take(nil)
		for _, i := range v {
			require.Equal(t, next, i)
			next++
		}
	}
	require.Equal(t, n, next)
}
