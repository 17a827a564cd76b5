package llama_test

import (
	"os"
	"runtime"
	"testing"
	"testing/fstest"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func TestReadMainMemory(t *testing.T) {
	const (
		mib     = 1 << 20
		meminfo = "MemTotal:       4194304 kB\nMemFree:          10240 kB\nMemAvailable:   2097152 kB\n" // 4 GiB, 2 GiB
		v2      = "0::/a/b\n"
		v1      = "5:cpu:/x\n4:memory:/docker/1\n0::/\n"
	)
	for name, tt := range map[string]struct {
		files       map[string]string
		free, total uint64
	}{
		"no proc":         {nil, 0, 0},
		"old kernel":      {map[string]string{"proc/meminfo": "MemTotal: 4194304 kB\nMemFree: 1 kB\n"}, 0, 0},
		"no cgroup":       {map[string]string{"proc/meminfo": meminfo}, 2048 * mib, 4096 * mib},
		"v2, no limit":    {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": v2, "sys/fs/cgroup/a/b/memory.max": "max\n"}, 2048 * mib, 4096 * mib},
		"v2, above total": {map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": v2, "sys/fs/cgroup/a/b/memory.max": "8589934592\n"}, 2048 * mib, 4096 * mib},
		"v2, limit, its page cache is free": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": v2,
			"sys/fs/cgroup/a/b/memory.max":     "1073741824\n",
			"sys/fs/cgroup/a/b/memory.current": "838860800\n", // 800 MiB
			"sys/fs/cgroup/a/b/memory.stat":    "anon 524288000\ninactive_file 104857600\nactive_file 104857600\nslab_reclaimable 104857600\n",
		}, (1024 - 500) * mib, 1024 * mib},
		"v2, more free in the cgroup than on the machine": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": v2,
			"sys/fs/cgroup/a/b/memory.max": "3221225472\n", "sys/fs/cgroup/a/b/memory.current": "0\n",
		}, 2048 * mib, 3072 * mib},
		"v2, the parent's is lower": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": v2,
			"sys/fs/cgroup/a/b/memory.max": "1073741824\n", "sys/fs/cgroup/a/b/memory.current": "1048576\n",
			"sys/fs/cgroup/a/memory.max": "536870912\n", "sys/fs/cgroup/a/memory.current": "1048576\n",
		}, 511 * mib, 512 * mib},
		"v2, the parent's is higher, and others have used it": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": v2,
			"sys/fs/cgroup/a/b/memory.max": "1073741824\n", "sys/fs/cgroup/a/b/memory.current": "0\n",
			"sys/fs/cgroup/a/memory.max": "2147483648\n", "sys/fs/cgroup/a/memory.current": "1879048192\n",
		}, 256 * mib, 1024 * mib},
		"v2, memory.high": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": v2,
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.high": "1073741824\n", "sys/fs/cgroup/a/b/memory.current": "0\n",
		}, 1024 * mib, 1024 * mib},
		"v2, over its limit": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": v2,
			"sys/fs/cgroup/a/b/memory.max": "1048576\n", "sys/fs/cgroup/a/b/memory.current": "2097152\n",
		}, 0, 1 * mib},
		"v1, a container sees its own directory as the root": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "209715200\n",
			"sys/fs/cgroup/memory/memory.stat": "total_inactive_file 104857600\ninactive_file 1\n",
		}, 924 * mib, 1024 * mib},
		"v1, no limit": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "9223372036854771712\n",
		}, 2048 * mib, 4096 * mib},
		"nonsense": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "x\n::\n0::\n0::/../../..\n", "sys/fs/cgroup/memory.max": "-1\n",
		}, 2048 * mib, 4096 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for name, text := range tt.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			free, total := llama.ReadMainMemory(fsys)
			require.Equal(t, []uint64{tt.free, tt.total}, []uint64{free, total})
		})
	}
	if runtime.GOOS == "linux" {
		free, total := llama.ReadMainMemory(os.DirFS("/"))
		require.Positive(t, free)
		require.Less(t, free, total)
	}
}
