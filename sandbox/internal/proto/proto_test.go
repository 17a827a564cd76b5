package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func reply(kind Kind, body ...byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(kind))
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(body))), body...)
}

func TestRead(t *testing.T) {
	exit := append(append(append([]byte{0, 1, 0, 0}, 8, 0, 0, 0), 7, 0, 0, 0, 0, 0, 0, 0), 9, 0, 0, 0, 0, 0, 0, 0)
	for n := range byte(4) {
		exit = append(exit, n+1, 0, 0, 0, 0, 0, 0, 0)
	}
	tests := map[string]struct {
		in   []byte
		want any
		err  error
	}{
		"empty":        {nil, nil, io.EOF},
		"half header":  {[]byte{1, 2, 3}, nil, io.ErrUnexpectedEOF},
		"half body":    {reply(KindExit, exit...)[:20], nil, io.ErrUnexpectedEOF},
		"no body":      {reply(KindExit, exit...)[:8], nil, io.ErrUnexpectedEOF},
		"started":      {reply(KindStarted, 3, 0, 0, 0, 1, 0, 0, 0), Started{FileTerminal | FileSide, LackLandlock}, nil},
		"ready":        {reply(KindReady, 232, 3, 0, 0, 2, 0, 0, 0), Ready{1000, 2}, nil},
		"failure":      {reply(KindError, 4, 0, 0, 0, 28, 0, 0, 0, 'n', 's'), Failure{StageClone, 28, "ns"}, nil},
		"reply":        {reply(KindReply, 28, 0, 0, 0, 1, 0, 0, 0), Reply{28, 1}, nil},
		"short reply":  {reply(KindReply, 28, 0, 0, 0), nil, ErrMalformed},
		"exit":         {reply(KindExit, exit...), Exit{256, HitDisk, 7, 9, 1, 2, 3, 4}, nil},
		"short exit":   {reply(KindExit, exit[:20]...), nil, ErrMalformed},
		"short error":  {reply(KindError, 1, 2, 3), nil, ErrMalformed},
		"unknown kind": {reply(99), nil, ErrMalformed},
		"huge":         {binary.LittleEndian.AppendUint32([]byte{16, 0, 0, 0}, 1<<31), nil, ErrMalformed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Read(bytes.NewReader(tc.in))
			require.ErrorIs(t, err, tc.err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestRequestLength(t *testing.T) {
	r := &Request{Build{Ops: []Op{{Kind: OpFile, Path: "p", Source: "x\x00y"}}}, Run{Argv: []string{"a"}}}
	build, run := r.Build.Encode(), r.Run.Encode()
	require.Equal(t, append(build, run...), r.Encode())
	require.Equal(t, uint32(KindBuild), binary.LittleEndian.Uint32(build))
	require.Equal(t, len(build)-headerSize, int(binary.LittleEndian.Uint32(build[4:])))
	require.Equal(t, uint32(Version), binary.LittleEndian.Uint32(build[8:]))
	require.Equal(t, uint32(KindRun), binary.LittleEndian.Uint32(run))
	require.Equal(t, len(run)-headerSize, int(binary.LittleEndian.Uint32(run[4:])))
}

func TestStageNames(t *testing.T) {
	for s := StageRequest; s <= StageCgroup; s++ {
		require.NotEqual(t, "unknown stage", s.String())
	}
	require.Equal(t, "unknown stage", Stage(0).String())
	require.Equal(t, "unknown stage", Stage(1<<31).String())
}

func FuzzRead(f *testing.F) {
	f.Add(reply(KindStarted, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add(reply(KindError, 4, 0, 0, 0, 28, 0, 0, 0, 'n'))
	f.Add(reply(KindExit, make([]byte, 24)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			v, err := Read(r)
			if err == nil {
				require.NotNil(t, v)
				continue
			}
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
	})
}
