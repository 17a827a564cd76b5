package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// peerServer starts llama-server of the same tree and gives its URL once it answers.
func peerServer(t testing.TB, model string, args ...string) string {
	t.Helper()
	server, err := filepath.Abs("../../bin/peers/llama-server")
	require.NoError(t, err)
	if _, err := os.Stat(server); err != nil {
		t.Skip("llama-server is not built: run 'make peers'")
	}
	var log string
	for range 3 { // somebody else may take the port meanwhile
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		require.NoError(t, l.Close())
		url := fmt.Sprintf("http://127.0.0.1:%d", port)
		var ready bool
		if ready, log = startPeer(t, url, server, append([]string{"-m", model, "--port", strconv.Itoa(port), "--no-webui"}, args...)); ready {
			return url
		}
	}
	t.Fatalf("llama-server does not answer: %s", log)
	return ""
}

// startPeer starts a server for the time of the test. Where it does not become ready, it returns what it has logged.
func startPeer(t testing.TB, url, server string, args []string) (ready bool, log string) {
	cmd := exec.Command(server, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		r, err := http.Get(url + "/health")
		if err == nil {
			r.Body.Close()
		}
		select {
		case <-ended:
			return false, out.String()
		case <-time.After(20 * time.Millisecond):
		}
		if err == nil && r.StatusCode == http.StatusOK {
			return true, ""
		}
	}
	_ = cmd.Process.Kill()
	<-ended
	return false, out.String()
}

func peerPost(t testing.TB, url string, body, answer any) {
	t.Helper()
	b, err := json.Marshal(body)
	require.NoError(t, err)
	r, err := http.Post(url, "application/json", bytes.NewReader(b))
	require.NoError(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode, "%s", text)
	require.NoError(t, json.Unmarshal(text, answer))
}

func peerEmbed(t testing.TB, url string, texts []string) [][]float32 {
	t.Helper()
	var answer struct {
		Data []struct{ Embedding []float32 }
	}
	peerPost(t, url+"/v1/embeddings", map[string]any{"input": texts}, &answer)
	out := make([][]float32, len(answer.Data))
	for i, d := range answer.Data {
		out[i] = d.Embedding
	}
	return out
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}

var peerTexts = []string{
	"The capital of France is Paris.", "x", "Le café coûte trois euros, dit la dame.", "How now, brown cow? How now, brown cow?",
}

// Every pooling gives what llama-server gives.
func TestEmbedIsThatOfLlamaServer(t *testing.T) {
	m, err := hub.Pull(t.Context(), "default", hub.Options{})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		path     string
		poolings []llama.PoolingType
		shared   float64 // what another shape of the batch changes: much where activations are quantised
	}{
		"default": {m.Path, []llama.PoolingType{llama.PoolingMean, llama.PoolingLast}, 2e-3},
		"bert":    {fixture.BERT(fixture.PoolingMean).Write(t), []llama.PoolingType{llama.PoolingMean, llama.PoolingCLS, llama.PoolingLast}, 1e-5},
	} {
		e, err := engine.Open(t.Context(), c.path, engine.Params{NThreads: 1, FlashAttn: llama.FlashAttnOff, NCtx: 512, MaxSequences: 1, NCtxEmbed: 512})
		require.NoError(t, err)
		for _, pooling := range c.poolings {
			t.Run(name+" "+pooling.String(), func(t *testing.T) {
				url := peerServer(t, c.path, "--embedding", "--pooling", pooling.String(), "-t", "1", "-c", "512", "-np", "1", "-fa", "off")
				want := peerEmbed(t, url, peerTexts)
				together, err := e.Embed(t.Context(), peerTexts, engine.EmbedOptions{Pooling: pooling})
				require.NoError(t, err)
				for i := range peerTexts {
					got, err := e.Embed(t.Context(), peerTexts[i:i+1], engine.EmbedOptions{Pooling: pooling}) // as the server with one slot
					require.NoError(t, err)
					require.InDelta(t, 1, cosine(got[0], want[i]), 1e-5, "text %d", i)
					require.InDelta(t, 1, cosine(together[i], want[i]), c.shared, "text %d in a batch", i)
				}
			})
		}
		require.NoError(t, e.Close())
	}
}

func TestRerankIsThatOfLlamaServer(t *testing.T) {
	f := fixture.Reranker()
	withTemplate := f.With("tokenizer.chat_template.rerank", "[CLS] query: {query} [SEP] document: {document} [SEP]")
	for name, f := range map[string]*fixture.File{"separators": f, "template": withTemplate} {
		t.Run(name, func(t *testing.T) {
			path := f.Write(t)
			e := openFixture(t, f, engine.Params{})
			url := peerServer(t, path, "--reranking", "-t", "1", "-np", "1", "-fa", "off")
			var answer struct {
				Results []struct {
					Index          int
					RelevanceScore float64 `json:"relevance_score"`
				}
			}
			peerPost(t, url+"/v1/rerank", map[string]any{"query": "which cow is brown?", "documents": peerTexts}, &answer)
			got, err := e.Rerank(t.Context(), "which cow is brown?", peerTexts, engine.RerankOptions{})
			require.NoError(t, err)
			require.Len(t, answer.Results, len(got))
			for i, r := range answer.Results {
				require.Equal(t, r.Index, got[i].Index)
				require.InDelta(t, r.RelevanceScore, got[i].Score, 1e-4)
			}
		})
	}
}

// BenchmarkEmbedVsServer embeds texts of 100 tokens through the engine and through llama-server with its defaults, in turn,
// and reports the median of the ratios of texts/s. LM_SANDBOX_BENCH_TEXTS sets how many a side gets in a pair, 50 else.
func BenchmarkEmbedVsServer(b *testing.B) {
	m, err := hub.Pull(b.Context(), os.Getenv("LM_SANDBOX_BENCH_MODEL"), hub.Options{})
	require.NoError(b, err)
	n := 50
	if s := os.Getenv("LM_SANDBOX_BENCH_TEXTS"); s != "" {
		n, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	e, err := engine.Open(b.Context(), m.Path, engine.Params{NCtx: 512, MaxSequences: 1})
	require.NoError(b, err)
	defer e.Close()
	url := peerServer(b, m.Path, "--embedding", "--pooling", "mean", "-t", strconv.Itoa(2))
	texts := make([]string, n)
	for i := range texts {
		var toks []llama.Token
		for k := range 100 {
			toks = append(toks, llama.Token(1000+(i*7919+k*104729)%20000))
		}
		texts[i], err = e.Model().Vocab().Detokenize(toks, false, false)
		require.NoError(b, err)
	}
	ours := func() float64 {
		start := time.Now()
		_, err := e.Embed(context.Background(), texts, engine.EmbedOptions{})
		require.NoError(b, err)
		return float64(n) / time.Since(start).Seconds()
	}
	theirs := func() float64 {
		start := time.Now()
		peerEmbed(b, url, texts)
		return float64(n) / time.Since(start).Seconds()
	}
	ours()
	theirs()
	for b.Loop() {
		var ratios, x, y []float64
		for i := range 15 {
			var a, z float64
			if i%2 == 0 {
				a, z = ours(), theirs()
			} else {
				z, a = theirs(), ours()
			}
			ratios, x, y = append(ratios, a/z), append(x, a), append(y, z)
		}
		lo, hi := medianInterval95(ratios)
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(lo, "ratio-low95")
		b.ReportMetric(hi, "ratio-high95")
		b.ReportMetric(median(x), "texts/s")
		b.ReportMetric(median(y), "llama-server-texts/s")
	}
}
