package sandbox

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// resourceCases are those of the class C.
var resourceCases = []attackCase{
	{50, "a fork bomb", "EAGAIN, LimitPids", TestBombs},
	{51, "memory of one process, shared, of page tables, on tmpfs", "LimitMemory", TestLimits},
	{52, "memory of many processes", "LimitMemory", TestGroupMemory},
	{53, "files that are large, many, reserved, sparse", "ENOSPC, SIGXFSZ, LimitDisk", TestWorkspaceGrowth},
	{54, "more files than there are inodes", "LimitDisk", TestLimits},
	{56, "output without end", "cut, or LimitOutput", TestOutput},
	{57, "a reader that is slow, gone, or never returns", "the command waits; ErrStream", TestLiveStreamBlocksForEver},
	{58, "busy loops of one, of many", "LimitCPU", TestLimits},
	{59, "sleep", "LimitTimeout", TestLimits},
	{60, "signals that are ignored", "SIGKILL", TestLimits},
	{62, "descriptors, pipes, sockets, inotify, epoll, timers", "EMFILE, LimitFiles, LimitMemory", TestBombs},
	{68, "disk operations without end", "bound by ReadRate and WriteRate in a control group", TestGroupRates},
}

func TestResourceCases(t *testing.T) {
	for i, c := range resourceCases {
		require.Equal(t, "C", class(c.number))
		require.True(t, i == 0 || resourceCases[i-1].number < c.number, c.number)
		require.NotEmpty(t, c.attempt, c.number)
		require.NotEmpty(t, c.outcome, c.number)
		require.NotNil(t, c.test, c.number)
	}
}
