package engine

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// fill sets every exported field of v to something that is not its zero value, and
// gives the places of those that only a Go program can fill.
func fill(v reflect.Value, place string) (refused []string) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(-7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(200)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(math.Inf(-1))
	case reflect.String:
		v.SetString("\xff" + place)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		return fill(v.Index(1), place)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		refused = append(fill(key, place), fill(value, place)...)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		elem := v.Type().Elem()
		if elem.Kind() == reflect.Struct && !elem.Field(0).IsExported() {
			return []string{place}
		}
		v.Set(reflect.New(elem))
		if elem.Kind() == reflect.Struct { // others point to zero: to false
			return fill(v.Elem(), place)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				refused = append(refused, fill(v.Field(i), place+"."+f.Name)...)
			}
		}
	default:
		return []string{place}
	}
	return refused
}

// TestFieldsCross: every field of what callers give reaches the worker, but for what
// is Go code, and that is refused by its name or handled (worker.load).
func TestFieldsCross(t *testing.T) {
	for _, test := range []struct {
		value   any
		refused []string
	}{
		{&Request{}, []string{"Request.Processor"}},
		{&ChatRequest{}, []string{"ChatRequest.Processor"}},
		{&Params{}, []string{"Params.Model.Progress", "Params.Model.Preflight", "Params.Model.Tune.Progress", "Params.Preflight", "Params.Logger"}},
		{&Delta{}, nil}, {&ChatDelta{}, nil}, {&Stats{}, nil}, {&llama.MemoryNeed{}, nil}, {&llama.ChatTemplateRequest{}, nil},
	} {
		v := reflect.ValueOf(test.value).Elem()
		t.Run(v.Type().Name(), func(t *testing.T) {
			refused := fill(v, v.Type().Name())
			for _, place := range refused {
				require.Contains(t, test.refused, place, "a field that cannot cross: handle it, or refuse it by a test here")
			}
			b, err := encodeWire(v.Interface(), v.Type().Name())
			require.NoError(t, err)
			back := reflect.New(v.Type())
			r := wireReader{b: b}
			r.read(back.Elem())
			require.NoError(t, r.err)
			require.Equal(t, v.Interface(), back.Elem().Interface())
			for n := range len(b) { // cut short, nothing is read and nothing breaks
				r := wireReader{b: b[:n]}
				r.read(reflect.New(v.Type()).Elem())
				require.Error(t, r.err)
			}
		})
	}
	_, err := encodeWire(struct{ F func() }{func() {}}, "Request")
	require.ErrorContains(t, err, "Request.F")
	require.ErrorAs(t, err, new(*ErrInvalid))
}

// TestErrorsCross: each exported error of llama and llama/engine is in the tables.
func TestErrorsCross(t *testing.T) {
	known := map[string]bool{
		"engine.ErrOutput":    true, // made by GenerateInto, on the caller's side
		"engine.ErrText":      true, // embedReply has its parts
		"engine.ErrProcessor": true, // of Go code, which does not cross
	}
	for _, e := range wireTypes {
		known[strings.TrimPrefix(e.String(), "*")] = true
	}
	sentinels := 0
	for dir, name := range map[string]string{".": "engine", "..": "llama"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			require.NoError(t, err)
			for _, d := range parsed.Decls {
				decl, ok := d.(*ast.GenDecl)
				if !ok {
					continue
				}
				for _, spec := range decl.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						if strings.HasPrefix(s.Name.Name, "Err") || s.Name.Name == "DecodeError" || s.Name.Name == "PlaceError" {
							require.True(t, known[name+"."+s.Name.Name], "%s.%s is not in wireTypes", name, s.Name.Name)
						}
					case *ast.ValueSpec:
						if strings.HasPrefix(s.Names[0].Name, "Err") && decl.Tok == token.VAR {
							sentinels++
						}
					}
				}
			}
		}
	}
	exported := 0
	for _, s := range wireSentinels {
		if text := s.Error(); strings.HasPrefix(text, "llama: ") || strings.HasPrefix(text, "engine: ") {
			exported++
		}
	}
	require.Equal(t, sentinels, exported-1, "wireSentinels has all of them, and errPreflight")

	for _, err := range []error{
		nil, ErrBusy, &llama.ErrContextFull{Have: 3, Max: 2}, &llama.DecodeError{Code: 2, Text: "x"}, errors.Join(ErrClosed, &ErrInvalid{Field: "F"}), errors.New("plain"),
	} {
		got := newWireError(err).err()
		if err == nil {
			require.NoError(t, got)
			continue
		}
		require.EqualError(t, got, err.Error())
		for _, s := range wireSentinels {
			require.Equal(t, errors.Is(err, s), errors.Is(got, s))
		}
		require.Equal(t, errors.As(err, new(*ErrInvalid)), errors.As(got, new(*ErrInvalid)))
	}
	require.Equal(t, &llama.ErrContextFull{Have: 3, Max: 2}, newWireError(&llama.ErrContextFull{Have: 3, Max: 2}).err())
}

// TestMethodsCross: each method of an Engine works in a worker; one that is new must be
// brought there, and be named here.
func TestMethodsCross(t *testing.T) {
	engine := reflect.TypeFor[*Engine]()
	for m := range engine.Methods() {
		require.Contains(t, []string{
			"Chat", "Close", "CountTokens", "Embed", "EmbedTokens", "Generate", "HasChatTemplate", "Model", "Rerank", "Stats",
		}, m.Name)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	now, died := time.Now(), &ErrWorkerDied{}
	for range freeCrashes {
		b.add(now, now, died)
		require.NoError(t, b.refused(now))
	}
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		b.add(now, now, died)
		require.Equal(t, died, b.refused(now.Add(pause*time.Second-1)))
		now = now.Add(pause * time.Second)
		require.NoError(t, b.refused(now))
	}
	b.add(now.Add(-healthyAfter), now, died)
	require.NoError(t, b.refused(now), "it had run well")
}

// TestNoWorker: a program that does not call RunWorker, and finds no lm-sandbox, is told
// so. One that is none, or of another version, is found out.
func TestNoWorker(t *testing.T) {
	canBeWorker.Store(false)
	defer canBeWorker.Store(true)
	t.Setenv("PATH", t.TempDir())
	open := func(worker string) error {
		_, err := Open(context.Background(), "model.gguf", Params{Isolated: true, WorkerPath: worker})
		return err
	}
	require.ErrorIs(t, open(""), ErrNoWorker)
	require.ErrorIs(t, open("/nonexistent"), ErrNoWorker)
	require.ErrorIs(t, open("/bin/true"), ErrNoWorker)
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(other, []byte("#!/bin/sh\nprintf '\\0\\0\\0\\0\\1\\1\\1\\1\\1\\1\\1\\1\\1' >&3\nexec sleep 100\n"), 0o755))
	require.ErrorContains(t, open(other), "another version")
}

// TestStoppedWorker: a process that does not answer is killed.
func TestStoppedWorker(t *testing.T) {
	every, patience := pingEvery, pingPatience
	pingEvery, pingPatience = 10*time.Millisecond, 50*time.Millisecond
	defer func() { pingEvery, pingPatience = every, patience }()
	silent := filepath.Join(t.TempDir(), "silent")
	hash := []byte{0, 0, 0, 0, byte(frameHello)}
	for i := range 8 {
		hash = append(hash, byte(wireTypesHash()>>(8*i)))
	}
	var octal strings.Builder
	for _, c := range hash {
		octal.WriteString(`\` + string([]byte{'0' + c>>6, '0' + c>>3&7, '0' + c&7}))
	}
	require.NoError(t, os.WriteFile(silent, []byte("#!/bin/sh\nprintf '"+octal.String()+"' >&3\nexec sleep 100\n"), 0o755))
	_, err := Open(t.Context(), "model.gguf", Params{Isolated: true, WorkerPath: silent})
	var died *ErrWorkerDied
	require.ErrorAs(t, err, &died)
	require.Contains(t, died.Log, "did not answer")
	require.Equal(t, "killed", died.Signal)
}
