package llama

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// TestAdapterLocks: an adapter, a context and the plan of a model that are made at the same
// time do not wait for each other for ever.
func TestAdapterLocks(t *testing.T) {
	m, err := LoadModel(t.Context(), fixture.Llama(1).Write(t), ModelParams{NGPULayers: NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	path := fixture.LoRA(1).Write(t)
	fitting.RLock() // as newContext, which takes the other one next
	planned, loaded := make(chan struct{}), make(chan error)
	go func() {
		fitting.Lock() // waits, and makes all who read after it wait
		defer fitting.Unlock()
		close(planned)
	}()
	for fitting.TryRLock() {
		fitting.RUnlock()
		time.Sleep(time.Millisecond)
	}
	go func() {
		a, err := LoadAdapter(m, path)
		if err == nil {
			err = a.Close()
		}
		loaded <- err
	}()
	for range 100 {
		if !m.adapting.TryRLock() {
			fitting.RUnlock()
			t.Fatal("the adapter waits for a plan with what the context needs")
		}
		m.adapting.RUnlock()
		time.Sleep(time.Millisecond)
	}
	fitting.RUnlock()
	<-planned
	require.NoError(t, <-loaded)
}
