package sandbox

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// attackCase is one way to attack a sandbox, by the number that the tests name it by.
type attackCase struct {
	number  int
	attempt string
	outcome string           // inside
	test    func(*testing.T) // where it is tried, with its control outside
}

// attackClasses are ranges of numbers.
var attackClasses = []struct {
	name, about string
	first, last int
}{
	{"A", "escape", 1, 33}, {"B", "information", 34, 49}, {"C", "resources", 50, 68}, {"D", "processes that stay", 69, 78},
	{"E", "terminal", 79, 88}, {"F", "network", 90, 99}, {"G", "input", 100, 108},
}

// class is the name of a case's class; 0 is a case without a number.
func class(number int) string {
	for _, c := range attackClasses {
		if number >= c.first && number <= c.last {
			return c.name
		}
	}
	return ""
}

// attackCases are those of the classes A, B and F, and of E what the filter refuses.
var attackCases = []attackCase{
	{1, "a namespace of its own, by unshare, clone, setns", "EPERM", TestNamespacesAndMounts},
	{2, "clone3, whose flags a filter cannot see", "ENOSYS, and threads work", TestThreadsFallBackFromClone3},
	{4, "mount, remount, umount", "EPERM", TestNamespacesAndMounts},
	{5, "the new mount interface", "EPERM", TestNamespacesAndMounts},
	{6, "pivot_root, chroot, and out of a chroot", "EPERM", TestNamespacesAndMounts},
	{7, "write core_pattern", "EROFS, EACCES", TestKernelSettings},
	{8, "write the kernel's other settings", "EROFS, EACCES, ENOENT", TestKernelSettings},
	{10, "files that the caller has open", "0, 1 and 2 only", TestOpenFiles},
	{11, "a Dir through a descriptor, a link or ..", "ErrConfig", TestBadConfig},
	{12, "change the helper through /proc/PID/exe", "EACCES, its bytes stay", TestHelperStaysAsItIs},
	{13, "make a set-user-id file, by every call", "EPERM, ENOSYS", TestSetUserID},
	{14, "capabilities, gained or left", "none in five sets", TestPrivileges},
	{15, "a file with capabilities, or set-user-id", "as any other file", TestPrivilegesOfFiles},
	{16, "a device node, made or found", "EPERM, EACCES", TestPrivilegesOfFiles},
	{17, "devices of the host", "null, zero, full, random, urandom, tty, pts", TestDevices},
	{19, "another process's memory and files", "EPERM, EACCES", TestOtherProcesses},
	{20, "io_uring", "EPERM", TestYoungKernelParts},
	{21, "calls of the machine's administrator", "EPERM", TestCallsOfTheMachine},
	{23, "the kernel's keys", "EPERM", TestYoungKernelParts},
	{24, "signals to everybody, pid 1, a pid of the host", "the own tree only", TestKillEverything},
	{25, "links swapped while files are put and got", "nothing outside is touched", TestFilesSwappedLinks},
	{27, "links and renames out of a mount", "EXDEV, EROFS", TestLinksAcrossMounts},
	{28, "leave what the host's user will run: hooks, shell start-up files", "EROFS where Protect names it", TestProtect},
	{29, "personality", "EPERM", TestYoungKernelParts},
	{31, "LD_PRELOAD, BASH_ENV and their kin", "inside only", TestEnvironmentAffectsInsideOnly},
	{32, "control groups", "not there", TestControlGroups},
	{33, "execute from memory", "ENOSYS", TestYoungKernelParts},
	{34, "the caller's environment", "none of it", TestEnvironment},
	{35, "files of the host", "not there", TestFilesOfTheHost},
	{36, "processes of the host", "its own only", TestProcesses},
	{37, "files of /proc about the host", "empty", TestProcOfTheHost},
	{39, "sockets and interfaces of the host", "its own only", TestNetworkOfTheHost},
	{40, "names and numbers of the host, its start", "neutral", TestIdentifiersOfTheHost},
	{41, "GPUs", "not there", TestGPUNodesStayOutside},
	{42, "what pid 1 was given", "EACCES, a constant argv", TestProcesses},
	{45, "files of the tenant before", "not there", TestNothingStays},
	{46, "what was never written", "zeros", TestUnwrittenFiles},
	{47, "the kernel's log", "EPERM, ENOENT", TestKernelLog},
	{48, "a core of a crash", "none", TestNoCore},
	{49, "paths of the host in errors", "none", TestErrorsNameNoHostPath},
	{79, "type into the terminal", "EPERM", TestTerminalRequests},
	{80, "change a console, a keyboard, a line discipline", "EPERM", TestTerminalRequests},
	{90, "tools of the network, without one", "they fail at once", TestNoNetworkForTools},
	{91, "cloud metadata, the host's loopback", "unreachable", TestNoNetwork},
	{92, "rare families of sockets, raw ones, on the host's network too", "EAFNOSUPPORT, EPROTONOSUPPORT, EPERM", TestHostNetworkGivesNoMore},
	{93, "past the proxy: addresses, DNS, UDP, no variables", "unreachable", TestNoWayAround},
	{94, "other spellings of hosts and addresses", "refused, or what it is", TestAttacksOnTheProxy},
	{95, "an allowed name at a private address, at times", "refused, the address checked is dialled", TestAttacksOnTheProxy},
	{96, "another host in the request, in TLS", "refused, TLS by VerifySNI", TestAttacksOnTheProxy},
	{97, "redirects, smuggled requests, a switch of protocols", "each decided for itself, refused, not passed on", TestAttacksOnTheProxy},
	{98, "take the proxy's ports, its process, another sandbox's", "EADDRINUSE, nobody has them", TestProxyPorts},
	{99, "thousands of connections, slow and endless ones", "they wait, they end; the host has few", TestManyConnections},
}

// Every case of these classes has its row, once.
func TestCases(t *testing.T) {
	want := []int{1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 23, 24, 25, 27, 28, 29, 31, 32, 33,
		34, 35, 36, 37, 39, 40, 41, 42, 45, 46, 47, 48, 49, 79, 80, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99}
	var have []int
	for _, c := range attackCases {
		require.NotEmpty(t, class(c.number), c.number)
		require.NotEmpty(t, c.attempt, c.number)
		require.NotEmpty(t, c.outcome, c.number)
		require.NotNil(t, c.test, c.number)
		have = append(have, c.number)
	}
	require.Equal(t, want, have)
}
