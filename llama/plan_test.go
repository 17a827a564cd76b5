package llama_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
	"github.com/stretchr/testify/require"
)

const mib = 1 << 20

func estimate(t testing.TB, ref string, p llama.ModelParams) llama.MemoryNeed {
	t.Helper()
	path, err := modelPath(ref)
	require.NoError(t, err)
	need, err := llama.EstimateMemory(t.Context(), path, p)
	require.NoError(t, err)
	return need
}

// main memory's part of a need
func host(n llama.MemoryNeed) llama.DeviceMemory { return n.Devices[len(n.Devices)-1] }

// What was computed is what llama.cpp says that it allocates when it does.
func TestEstimateMemory(t *testing.T) {
	defer llama.SetLogger(nil)
	buffers := regexp.MustCompile(`(\S+) +(model|KV|RS|compute) buffer size = +([0-9.]+) MiB`)
	for name, tt := range map[string]struct {
		ref string
		p   llama.ModelParams
	}{
		"default":             {"default", llama.ModelParams{Context: llama.ContextParams{NCtx: 2048}}},
		"default, read":       {"default", llama.ModelParams{LoadMode: llama.LoadRead, Context: llama.ContextParams{NCtx: 1024, NSeqMax: 4, KVUnified: true}}},
		"default, small":      {"default", llama.ModelParams{Context: llama.ContextParams{NCtx: 512, NBatch: 64, NUBatch: 32, NOutputsMax: 1}}},
		"default, Q8_0 cache": {"default", llama.ModelParams{Context: llama.ContextParams{NCtx: 2048, TypeK: llama.KVQ8_0, TypeV: llama.KVQ8_0}}},
		"sliding window":      {"gemma3-270m", llama.ModelParams{Context: llama.ContextParams{NCtx: 4096, NOutputsMax: 4}}},
		"whole window":        {"gemma3-270m", llama.ModelParams{Context: llama.ContextParams{NCtx: 4096, NOutputsMax: 4, SWAFull: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			need := estimate(t, tt.ref, tt.p)
			require.NoError(t, need.Check())
			require.Equal(t, tt.p.Context.NCtx, need.NCtx)
			h := &logHandler{level: slog.LevelInfo}
			llama.SetLogger(slog.New(h))
			m, err := llama.LoadModel(t.Context(), need.Path, tt.p)
			require.NoError(t, err)
			defer m.Close()
			c, err := llama.NewContext(m, tt.p.Context)
			require.NoError(t, err)
			require.NoError(t, c.Close())
			llama.SetLogger(nil)

			allocated := map[string]float64{}
			for _, line := range h.lines {
				require.NotContains(t, line, "dummy tokens", "planning is not logged")
				if f := buffers.FindStringSubmatch(line); f != nil {
					size, err := strconv.ParseFloat(f[3], 64)
					require.NoError(t, err)
					kind := f[2]
					if kind == "model" && f[1] == "CPU_Mapped" {
						kind = "mapped"
					}
					allocated[kind] += size
				}
			}
			planned := host(need)
			for kind, bytes := range map[string]uint64{"model": planned.Weights, "KV": planned.Context, "compute": planned.Compute} {
				require.InDelta(t, allocated[kind], float64(bytes)/mib, 0.1, "%s: of %v", kind, h.lines)
			}
			// tensors that are repacked are in the mapped part of the file too
			require.InDelta(t, allocated["mapped"], float64(planned.Mapped)/mib, float64(planned.Weights)/mib+0.1)
		})
	}
}

// status reads a size from /proc/self/status, in bytes.
func status(name string) uint64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+name+":")
	n, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		panic(err)
	}
	return n << 10
}

// memoryChild is what the child "memory" is asked for.
type memoryChild struct {
	Mode    llama.LoadMode
	Context llama.ContextParams
}

func init() {
	// a fresh process: plans, loads, and says what the system counts
	children["memory"] = func() error {
		var asked memoryChild
		if err := json.Unmarshal([]byte(os.Getenv("LLAMA_TEST_PARAMS")), &asked); err != nil {
			return err
		}
		p := llama.ModelParams{LoadMode: asked.Mode, Context: asked.Context}
		path := os.Getenv("LLAMA_TEST_MODEL")
		ctx := context.Background()
		if _, err := llama.SystemInfo(); err != nil {
			return err
		}
		before, peak := status("RssAnon"), status("VmHWM") // the latter with the program's own pages: many, with CUDA
		need, err := llama.EstimateMemory(ctx, path, p)
		if err != nil {
			return err
		}
		m, err := llama.LoadModel(ctx, path, p)
		var im *llama.ErrInsufficientMemory
		if errors.As(err, &im) {
			fmt.Println("refused", im.Need, im.Free, status("VmHWM")-peak, 0, 0)
			return nil
		}
		if err != nil {
			return err
		}
		defer m.Close()
		debug.FreeOSMemory()
		loaded := status("RssAnon")
		c, err := llama.NewContext(m, p.Context)
		if err != nil {
			return err
		}
		defer c.Close()
		b := llama.NewBatch(512)
		for pos := 0; pos < c.NCtx(); { // memory is taken as it is used: all of it
			b.Clear()
			for ; b.Len() < 512; pos++ {
				if _, err := b.Add(llama.Token(1000+pos), llama.Pos(pos), 0, b.Len() == 511); err != nil {
					return err
				}
			}
			if err := c.Decode(b); err != nil {
				return err
			}
		}
		debug.FreeOSMemory()
		h := host(need)
		fmt.Println("used", loaded-before, status("RssAnon")-loaded, h.Weights, h.Mapped, h.Context+h.Compute)
		return nil
	}
}

func childNumbers(t *testing.T, word, ref string, p memoryChild) (numbers [5]uint64) {
	t.Helper()
	path, err := modelPath(ref)
	require.NoError(t, err)
	params, err := json.Marshal(p)
	require.NoError(t, err)
	// Where glibc may raise this threshold by itself, large buffers come from the heap, in memory that the load has freed: then
	// the process grows by less than it allocates, and by how much less is chance.
	const heap = "MALLOC_MMAP_THRESHOLD_=131072"
	out := runChild(t, "memory", 10*time.Minute, "LLAMA_TEST_MODEL="+path, "LLAMA_TEST_PARAMS="+string(params), heap)
	_, err = fmt.Sscanf(lastLine(out), word+" %d %d %d %d %d", &numbers[0], &numbers[1], &numbers[2], &numbers[3], &numbers[4])
	require.NoError(t, err, out)
	return numbers
}

// The process takes what was computed, and no weights where they are mapped.
func TestEstimateMemoryIsUsed(t *testing.T) {
	for _, ref := range []string{"default", "gemma3-270m"} {
		var loaded, weights [2]float64
		for i, mode := range []llama.LoadMode{llama.LoadAuto, llama.LoadRead} {
			n := childNumbers(t, "used", ref, memoryChild{mode, llama.ContextParams{NCtx: 2048, NBatch: 512, NOutputsMax: 8, NThreads: 2}})
			used, need := float64(n[1])/mib, float64(n[4])/mib
			t.Logf("%s, mode %d: context and buffers computed %.1f MiB, used %.1f", ref, mode, need, used)
			require.InDelta(t, need, used, 0.1*need+8)
			loaded[i], weights[i] = float64(n[0])/mib, float64(n[2])/mib
			require.Equal(t, mode == llama.LoadRead, n[3] == 0)
		}
		// the vocabulary is in both
		computed, used := weights[1]-weights[0], loaded[1]-loaded[0]
		t.Logf("%s: weights that are read instead of mapped computed %.1f MiB, used %.1f", ref, computed, used)
		require.InDelta(t, computed, used, 0.25*computed+8)
	}
}

// A context that cannot fit is refused with the figures, before anything of it or of the model is allocated.
func TestInsufficientMemory(t *testing.T) {
	const positions, positionBytes = 1 << 30, 30 * 2 * 192 * 2 // layers, K and V, width, F16
	n := childNumbers(t, "refused", "default", memoryChild{llama.LoadRead, llama.ContextParams{NCtx: positions, NOutputsMax: 1}})
	need, free, grown := n[0], n[1], n[2]
	require.Greater(t, need, uint64(positions*positionBytes))
	require.Less(t, need, uint64(positions*positionBytes)*11/10)
	_, total := llama.ReadMainMemory(os.DirFS("/"))
	require.Positive(t, free)
	require.Less(t, free, total)
	require.Less(t, grown, uint64(90*mib), "the model alone has 94 MiB")

	var im *llama.ErrInsufficientMemory
	_, err := llama.NewContext(testModel(t, "default"), llama.ContextParams{NCtx: positions, NOutputsMax: 1})
	require.ErrorAs(t, err, &im)
	require.Equal(t, "context", im.What)
	require.Equal(t, "CPU", im.Device)
	require.InDelta(t, float64(need-im.Need), 93*mib, 2*mib, "the weights")
	require.Regexp(t, `^llama: not enough memory for the context: it needs 2\d\.\d TiB on CPU, of which [0-9.]+ [GM]iB are free: lower NCtx$`, err.Error())
}

// Where the context is open, it becomes as long as fits.
func TestContextFits(t *testing.T) {
	path, err := modelPath("default")
	require.NoError(t, err)
	full := host(estimate(t, "default", llama.ModelParams{Context: llama.ContextParams{NOutputsMax: 4}}))
	p := llama.ModelParams{Context: llama.ContextParams{NOutputsMax: 4, NThreads: 1}}
	whole := full.Need() + full.Mapped
	for _, tt := range []struct {
		name        string
		free, total uint64
		lo, hi      int // positions
		refused     bool
	}{
		{"all", whole + 300*mib, 2000 * mib, 8192, 8192, false},
		{"unknown", 0, 0, 8192, 8192, false},
		{"some", whole, 512 * mib, 4097, 8191, false},
		{"least, no margin", full.Need() / 2 * 3 / 2, 512 * mib, 4096, 4096, false},
		{"none", 40 * mib, 512 * mib, 0, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer llama.LimitMemory("CPU", tt.free, tt.total)()
			m, err := llama.LoadModel(t.Context(), path, p)
			if tt.refused {
				var im *llama.ErrInsufficientMemory
				require.ErrorAs(t, err, &im)
				require.Equal(t, []any{"model", "CPU", tt.free}, []any{im.What, im.Device, im.Free})
				require.Greater(t, im.Need, im.Free)
				return
			}
			require.NoError(t, err)
			defer m.Close()
			need := m.MemoryNeed()
			require.GreaterOrEqual(t, need.NCtx, tt.lo)
			require.LessOrEqual(t, need.NCtx, tt.hi)
			if tt.hi > 4096 && tt.total > 0 {
				h := host(need)
				require.LessOrEqual(t, h.Need()+h.Mapped+tt.total/8, tt.free+mib, "the margin is left")
			}
			c, err := llama.NewContext(m, p.Context)
			require.NoError(t, err)
			require.Equal(t, need.NCtx, c.NCtx())
			require.NoError(t, c.Close())
		})
	}
}

// A context is checked against what is free when it is made, whether the model was loaded for it or not.
func TestContextChecksAgain(t *testing.T) {
	p := llama.ContextParams{NCtx: 2048, NOutputsMax: 4, NThreads: 1}
	path, err := modelPath("default")
	require.NoError(t, err)
	m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{Context: p})
	require.NoError(t, err)
	defer m.Close()
	other := p
	other.NCtx = 4096
	restore := llama.LimitMemory("CPU", 50*mib, 4096*mib)
	for _, p := range []llama.ContextParams{p, other} {
		_, err := llama.NewContext(m, p)
		var im *llama.ErrInsufficientMemory
		require.ErrorAs(t, err, &im)
		require.Equal(t, []any{"context", "CPU", uint64(50 * mib)}, []any{im.What, im.Device, im.Free})
	}
	restore()
	newContext(t, m, p)
}

// Weights that stay in the file need no free memory, but must fit into the machine, unless the caller insists.
func TestMappedWeights(t *testing.T) {
	path, err := modelPath("default")
	require.NoError(t, err)
	defer llama.LimitMemory("CPU", 80*mib, 90*mib)()
	for mode, fits := range map[llama.LoadMode]bool{
		llama.LoadAuto: false, llama.LoadRead: false, llama.LoadMMapLock: false, llama.LoadMMap: true,
	} {
		m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{LoadMode: mode, Context: llama.ContextParams{NCtx: 256, NOutputsMax: 1}})
		if fits {
			require.NoError(t, err)
			require.NoError(t, m.Close())
			continue
		}
		var im *llama.ErrInsufficientMemory
		require.ErrorAs(t, err, &im, "mode %d", mode)
		require.Greater(t, im.Need, uint64(90*mib))
	}
}

// Very long contexts are computed from shorter ones.
func TestEstimateMemoryIsLinear(t *testing.T) {
	at := func(ref string, n int) llama.DeviceMemory {
		return host(estimate(t, ref, llama.ModelParams{Context: llama.ContextParams{NCtx: n, NOutputsMax: 1}}))
	}
	a, b := at("default", 1<<18), at("default", 1<<22)
	require.Equal(t, 16*a.Context, b.Context)
	require.InEpsilon(t, 16*a.Compute, b.Compute, 0.1)
	a, b = at("gemma3-270m", 1<<18), at("gemma3-270m", 1<<19)
	require.InEpsilon(t, 2*a.Context, b.Context, 0.05, "all but the windows")
}

// A model that claims an absurd context is loaded with a short one, without books about each position.
func TestAbsurdContext(t *testing.T) {
	m, err := llama.LoadModel(t.Context(), fixture.Llama(1).With("llama.context_length", uint32(1<<30)).Write(t), llama.ModelParams{})
	require.NoError(t, err)
	require.Equal(t, 4096, m.MemoryNeed().NCtx)
	require.NoError(t, m.Close())
}

// On a machine without a GPU no layer is on one, whatever was asked.
func TestLayersWithoutGPU(t *testing.T) {
	devices, err := llama.Devices()
	require.NoError(t, err)
	path := fixture.Llama(1).Write(t)
	for _, layers := range []int{llama.Auto, llama.AllLayers, llama.NoLayers, 1, 1 << 40} {
		need, err := llama.EstimateMemory(t.Context(), path, llama.ModelParams{NGPULayers: layers})
		require.NoError(t, err)
		require.Equal(t, 1, need.NLayer)
		if len(devices) == 1 || layers == llama.NoLayers {
			require.Zero(t, need.NGPULayers)
			require.Len(t, need.Devices, 1)
			require.Equal(t, "cpu", need.Devices[0].Type)
		}
	}
	_, err = llama.EstimateMemory(t.Context(), path, llama.ModelParams{NGPULayers: -3})
	require.ErrorIs(t, err, llama.ErrInvalidParam)
	_, err = llama.LoadModel(t.Context(), path, llama.ModelParams{Context: llama.ContextParams{NSeqMax: 300}})
	require.ErrorIs(t, err, llama.ErrInvalidParam)
}

// The fit starts from what ggml takes for free, which may be more than there is, or less than when the plan began.
func TestFitMargin(t *testing.T) {
	const gib = 1 << 30
	d := llama.DeviceMemory{Device: llama.Device{Name: "CUDA0", Type: "gpu", MemoryFree: 10 * gib, MemoryTotal: 16 * gib}}
	for free, want := range map[uint64]uint64{10 * gib: gib, 16 * gib: 7 * gib, 2 * gib: gib, 0: gib} {
		require.Equal(t, want, llama.FitMargin(d, free), "%d bytes", free)
	}
}

func TestMemoryNeedCheck(t *testing.T) {
	device := func(name string, free, total uint64) llama.DeviceMemory {
		kind := "gpu"
		if name == "CPU" {
			kind = "cpu"
		}
		return llama.DeviceMemory{Device: llama.Device{Name: name, Type: kind, MemoryFree: free, MemoryTotal: total}}
	}
	with := func(d llama.DeviceMemory, weights, mapped, context, compute uint64) llama.DeviceMemory {
		d.Weights, d.Mapped, d.Context, d.Compute = weights, mapped, context, compute
		return d
	}
	for name, tt := range map[string]struct {
		mode    llama.LoadMode
		devices []llama.DeviceMemory
		device  string // "" = fits
		need    uint64
		free    uint64
		text    string
	}{
		"fits to the byte":         {0, []llama.DeviceMemory{with(device("CPU", 60, 100), 10, 0, 20, 30)}, "", 0, 0, ""},
		"a byte too much":          {0, []llama.DeviceMemory{with(device("CPU", 59, 100), 10, 0, 20, 30)}, "CPU", 60, 59, "lower NCtx"},
		"weights":                  {0, []llama.DeviceMemory{with(device("CPU", 59, 100), 60, 0, 20, 30)}, "CPU", 110, 59, "smaller model"},
		"unknown memory":           {0, []llama.DeviceMemory{with(device("CPU", 0, 0), 1000, 0, 0, 0)}, "", 0, 0, ""},
		"first GPU of two":         {0, []llama.DeviceMemory{with(device("CUDA0", 9, 50), 10, 0, 0, 0), device("CUDA1", 50, 50), device("CPU", 50, 50)}, "CUDA0", 10, 9, "NGPULayers"},
		"second GPU of two":        {0, []llama.DeviceMemory{device("CUDA0", 50, 50), with(device("CUDA1", 9, 50), 0, 0, 10, 0), device("CPU", 50, 50)}, "CUDA1", 10, 9, "lower NCtx"},
		"GPU fits, RAM does not":   {0, []llama.DeviceMemory{with(device("CUDA0", 50, 50), 10, 0, 0, 0), with(device("CPU", 5, 50), 0, 0, 0, 6)}, "CPU", 6, 5, "lower NCtx"},
		"mapped is no allocation":  {0, []llama.DeviceMemory{with(device("CPU", 10, 100), 0, 50, 5, 5)}, "", 0, 0, ""},
		"mapped beyond memory":     {0, []llama.DeviceMemory{with(device("CPU", 50, 100), 0, 100, 5, 5)}, "CPU", 110, 100, "LoadMMap"},
		"mapped, as it was wished": {llama.LoadMMap, []llama.DeviceMemory{with(device("CPU", 50, 100), 0, 100, 5, 5)}, "", 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := llama.MemoryNeed{LoadMode: tt.mode, Devices: tt.devices}.Check()
			if tt.device == "" {
				require.NoError(t, err)
				return
			}
			var im *llama.ErrInsufficientMemory
			require.ErrorAs(t, err, &im)
			require.Equal(t, []any{"model", tt.device, tt.need, tt.free}, []any{im.What, im.Device, im.Need, im.Free})
			require.Contains(t, err.Error(), tt.text)
		})
	}
}

// A dry run without the vocabulary, which takes most of its time, gives the same figures as one with it.
func TestPlanWithoutVocabulary(t *testing.T) {
	p := native.ContextParams{
		NCtx: 2048, NBatch: 512, NUBatch: 512, NSeqMax: 2, NOutputsMax: 2, NThreads: 1, NThreadsBatch: 1, FlashAttn: -1, TypeK: 1, TypeV: 1, KVUnified: true,
	}
	for ref, arch := range map[string]string{"default": "llama", "gemma3-270m": "gemma3"} {
		path, err := modelPath(ref)
		require.NoError(t, err)
		measure := func(nVocab int64) []native.DeviceMemory {
			pl, err := native.NewPlan(path, native.Placement{NGPULayers: -1}, arch, nVocab)
			require.NoError(t, err)
			defer pl.Free()
			_, err = pl.OpenModel()
			require.NoError(t, err)
			devices, err := pl.Measure(p)
			require.NoError(t, err)
			return devices
		}
		require.Equal(t, measure(0), measure(int64(testModel(t, ref).Vocab().NTokens())), ref)
	}
}

// Plans, one of which swaps the log meanwhile, loads and contexts go on side by side.
func TestPlanConcurrently(t *testing.T) {
	defer llama.SetLogger(nil)
	llama.SetLogger(slog.New(&logHandler{level: slog.LevelDebug}))
	defer llama.LimitMemory("CPU", 17*mib, 24*mib)()
	path := fixture.Llama(1).With("llama.context_length", uint32(60_000)).Write(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 4 {
				m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{Context: llama.ContextParams{NUBatch: 64 << (i % 2)}})
				if err != nil {
					t.Error(err)
					return
				}
				if n := m.MemoryNeed().NCtx; n <= 4096 || n >= 60_000 {
					t.Errorf("%d positions", n)
				}
				c, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, NThreads: 1})
				if err != nil {
					t.Error(err)
				}
				if err := errors.Join(c.Close(), m.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
