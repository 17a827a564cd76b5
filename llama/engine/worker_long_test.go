package engine

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWorkerTellsOfALongAnswer: an answer that cannot cross is an error of its request, and
// does not end the process that computes everybody's.
func TestWorkerTellsOfALongAnswer(t *testing.T) {
	ours, theirs := net.Pipe()
	w, s := newWire(ours), &workerServer{wire: newWire(theirs), calls: map[uint64]*servedCall{}}
	s.wire.most = 400
	workerMethods["long"] = func(*servedCall, []byte) (any, error) { return make([]byte, 1000), nil }
	t.Cleanup(func() {
		delete(workerMethods, "long")
		require.NoError(t, w.close())
		require.NoError(t, s.wire.close())
	})
	call, err := encodeWire(callRequest{Method: "long"}, "call")
	require.NoError(t, err)
	s.handle(frame{kind: frameCall, id: 7, payload: call})
	f, err := w.receive()
	require.NoError(t, err)
	require.Equal(t, uint64(7), f.id)
	_, err = endOf[[]byte](f)
	require.ErrorContains(t, err, "1 GiB")
}
