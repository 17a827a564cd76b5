package llama_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

// The oracle of Verify: where it accepts a file, a child loads it and computes with it, and ends without a signal.

// Answers of the child to one file.
const (
	verifyRefused = 'r' // by Verify
	verifyFailed  = 'f' // accepted, and llama.cpp gave an error
	verifyWorked  = 'w'
)

func init() {
	// Reads files from stdin, each after its length, and answers with a byte.
	children["verify"] = func() error {
		debug.SetMemoryLimit(1 << 30)
		llama.SetLogger(nil)
		path := filepath.Join(os.Getenv("LLAMA_TEST_DIR"), strconv.Itoa(os.Getpid()))
		defer os.Remove(path)
		in := bufio.NewReader(os.Stdin)
		for {
			var size uint32
			err := binary.Read(in, binary.LittleEndian, &size)
			if errors.Is(err, io.EOF) {
				return nil
			}
			b := make([]byte, size)
			if err == nil {
				_, err = io.ReadFull(in, b)
			}
			if err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
			if err != nil {
				return err
			}
			answer, why := tryFile(path)
			if _, err := fmt.Printf("%c%s\n", answer, strings.ReplaceAll(why, "\n", " ")); err != nil {
				return err
			}
		}
	}
}

func tryFile(path string) (answer byte, why string) {
	if err := llama.Verify(path); err != nil {
		return verifyRefused, err.Error()
	}
	m, err := llama.LoadModel(context.Background(), path, llama.ModelParams{})
	if err != nil {
		return verifyFailed, err.Error()
	}
	defer m.Close()
	tryModel(m)
	return verifyWorked, ""
}

// verifier is the child, which is started again when it has died.
type verifier struct {
	dir     string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	errors  *bytes.Buffer
	timeout atomic.Bool
}

func (v *verifier) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	v.cmd, v.errors = exec.Command(self), &bytes.Buffer{}
	v.cmd.Env = append(os.Environ(), childVariable+"=verify", "LLAMA_TEST_DIR="+v.dir, "GOTRACEBACK=none")
	v.cmd.Stderr = v.errors
	if v.in, err = v.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	v.out = bufio.NewReader(out)
	return v.cmd.Start()
}

func (v *verifier) stop() error {
	if v.cmd == nil {
		return nil
	}
	v.in.Close()
	err := v.cmd.Wait()
	v.cmd = nil
	return err
}

// try gives the answer for one file, or how the child died of it.
func (v *verifier) try(file []byte) (answer byte, why string, err error) {
	if v.cmd == nil {
		if err := v.start(); err != nil {
			return 0, "", err
		}
	}
	v.timeout.Store(false)
	hangs := time.AfterFunc(time.Minute, func() { v.timeout.Store(true); _ = v.cmd.Process.Kill() })
	defer hangs.Stop()
	err = binary.Write(v.in, binary.LittleEndian, uint32(len(file)))
	if err == nil {
		_, err = v.in.Write(file)
	}
	if err == nil {
		why, err = v.out.ReadString('\n')
	}
	if err != nil {
		ended := v.stop()
		return 0, "", fmt.Errorf("%w, %w; hung: %v; its last words: %s", err, ended, v.timeout.Load(), death(v.errors.String()))
	}
	return why[0], why[1 : len(why)-1], nil
}

// death is the line that tells most of why a child died.
func death(text string) string {
	for _, mark := range []string{"llama.cpp: fatal: ", "panic: ", "fatal error: ", "SIG"} {
		if i := strings.Index(text, mark); i >= 0 {
			line, _, _ := strings.Cut(text[i:], "\n")
			return line
		}
	}
	return lastWords(text)
}

// verifySeeds are files that work, of each kind of architecture.
func verifySeeds() map[string]*fixture.File {
	target, _ := fixture.Speculative()
	return map[string]*fixture.File{
		"llama": fixture.Llama(1), "gemma3": fixture.Gemma3(), "mamba": fixture.Mamba(), "lfm2": fixture.LFM2(), "jamba": fixture.Jamba(),
		"moe": fixture.MoE(), "bert": fixture.BERT(fixture.PoolingMean), "reranker": fixture.Reranker(), "causal reranker": fixture.CausalReranker(), "t5": fixture.T5(), "target": target,
	}
}

func TestVerifyOracle(t *testing.T) {
	v := &verifier{dir: t.TempDir()}
	defer func() { require.NoError(t, v.stop()) }()
	seeds := verifySeeds()
	names := slices.Sorted(maps.Keys(seeds))
	answers, died := map[byte]int{}, map[string]string{} // one of each kind
	seed := verifySeed()
	for n := 0; n < verifyFiles && len(died) < 20; n++ {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		name := names[n%len(names)]
		answer, did, err := v.tryMutant(r, seeds[name])
		answers[answer]++
		if err != nil {
			died[err.Error()] = fmt.Sprintf("%s, file %d: %s", name, n, did)
		}
	}
	t.Logf("seed %d, %d files: %d worked, %d refused by Verify, %d by llama.cpp", seed, verifyFiles, answers[verifyWorked], answers[verifyRefused], answers[verifyFailed])
	for how, what := range died {
		t.Errorf("seed %d, %s\n%s", seed, what, how)
	}
	require.Positive(t, answers[verifyWorked])
	require.Positive(t, answers[verifyRefused])
}

// tryMutant tries a changed file, and what it becomes when its tensors get the shapes that llama.cpp asks for.
func (v *verifier) tryMutant(r *rand.Rand, f *fixture.File) (answer byte, did string, err error) {
	var done notes
	f = mutant(r, f, &done)
	b := f.Bytes()
	if len(done) == 0 || r.IntN(6) == 0 {
		b = mutateBytes(r, b, done.add)
	}
	answer, why, err := v.try(b)
	for range 40 {
		again, ok := repaired(f, why)
		if err != nil || !ok {
			break
		}
		f = again
		done = append(done, "shapes")
		answer, why, err = v.try(f.Bytes())
	}
	return answer, strings.Join(slices.Compact(done), "; "), err
}
