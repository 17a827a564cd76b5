package policy

// rule writes the check of one call's arguments.
type rule func(b *builder) label

// Constants of the kernel's interface that are alike on amd64 and arm64.
const (
	setIDBits = 0o6000 // S_ISUID|S_ISGID

	oCreat   = 0x40
	oTmpfile = 0x400000

	sIFMT  = 0xf000
	sIFCHR = 0x2000
	sIFBLK = 0x6000

	renameWhiteout = 4 // leaves a character device

	afUnix, afInet, afInet6, afNetlink  = 1, 2, 10, 16
	sockTypeMask, sockStream, sockDgram = 0xf, 1, 2
	sockSeqpacket                       = 5
	sockRaw, sockPacket                 = 3, 10
	protoTCP, protoUDP                  = 6, 17

	// CLONE_NEWTIME is not among them: for clone its bit is one of the exit signal's.
	cloneNamespaces = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

	prioUser, ioprioWhoUser = 2, 3

	personalityLinux   = 0
	personalityLinux32 = 8
	personalityQuery   = 0xffffffff
)

// rules are the calls that are allowed for some arguments only.
var rules = map[string]rule{
	"chmod":     refuseSetID(1),
	"fchmod":    refuseSetID(1),
	"fchmodat":  refuseSetID(2),
	"fchmodat2": refuseSetID(2),
	"creat":     refuseSetID(1),
	"open":      refuseSetIDCreation(1, 2),
	"openat":    refuseSetIDCreation(2, 3),
	"mknod":     refuseDevice(1),
	"mknodat":   refuseDevice(2),
	"renameat2": refuseBits(4, renameWhiteout),

	"clone":       refuseBits(0, cloneNamespaces),
	"ioctl":       terminalRequests,
	"personality": personalities,
	"socket":      socketFamilies,
	"socketpair":  onlyUnix,

	"prlimit64":          refuseInit(0),
	"sched_setparam":     refuseInit(0),
	"sched_setscheduler": refuseInit(0),
	"sched_setattr":      refuseInit(0),
	"sched_setaffinity":  refuseInit(0),
	"setpriority":        refuseInitAndUser(prioUser),
	"ioprio_set":         refuseInitAndUser(ioprioWhoUser),
}

// refuseInit keeps pid 1, which has the payload's uid and watches its memory,
// from being slowed down or limited by it.
func refuseInit(arg uint32) rule {
	return func(b *builder) label {
		return b.argument(arg, b.branch(opJEQ, 1, b.ret(EPERM), b.ret(Allow)))
	}
}

// The same for calls of the form (which, who), which can name a whole user too.
func refuseInitAndUser(user uint32) rule {
	return func(b *builder) label {
		return b.argument(0, b.branch(opJEQ, user, b.ret(EPERM), refuseInit(1)(b)))
	}
}

func refuseBits(arg, bits uint32) rule {
	return func(b *builder) label {
		return b.argument(arg, b.branch(opJSET, bits, b.ret(EPERM), b.ret(Allow)))
	}
}

// refuseSetID: through an idmapped workspace a set-user-id file made inside
// would be one of the host's root.
func refuseSetID(mode uint32) rule { return refuseBits(mode, setIDBits) }

// The mode of an open that creates nothing is garbage and ignored.
func refuseSetIDCreation(flags, mode uint32) rule {
	return func(b *builder) label {
		check := b.argument(mode, b.branch(opJSET, setIDBits, b.ret(EPERM), b.ret(Allow)))
		return b.argument(flags, b.branch(opJSET, oCreat|oTmpfile, check, b.ret(Allow)))
	}
}

func refuseDevice(mode uint32) rule {
	return func(b *builder) label {
		block := b.branch(opJEQ, sIFBLK, b.ret(EPERM), b.ret(Allow))
		kind := b.then(opAnd, sIFMT, b.branch(opJEQ, sIFCHR, b.ret(EPERM), block))
		return b.argument(mode, b.branch(opJSET, setIDBits, b.ret(EPERM), kind))
	}
}

// Requests that inject input into a terminal or change a console.
var refusedRequests = []uint32{
	0x5412, // TIOCSTI
	0x541C, // TIOCLINUX
	0x541D, // TIOCCONS
	0x5423, // TIOCSETD
}

// Whole families of them: the keyboard's and the virtual terminal's.
var refusedRequestRanges = [][2]uint32{{0x4B00, 0x4BFF}, {0x5600, 0x56FF}}

func terminalRequests(b *builder) label {
	next := b.ret(Allow)
	for _, r := range refusedRequestRanges {
		below := b.branch(opJGE, r[1]+1, b.ret(Allow), b.ret(EPERM))
		next = b.branch(opJGE, r[0], below, next)
	}
	for _, r := range refusedRequests {
		next = b.branch(opJEQ, r, b.ret(EPERM), next)
	}
	return b.argument(1, next)
}

func personalities(b *builder) label {
	next := b.ret(EPERM)
	for _, p := range []uint32{personalityLinux, personalityLinux32, personalityQuery} {
		next = b.branch(opJEQ, p, b.ret(Allow), next)
	}
	return b.argument(0, next)
}

func onlyUnix(b *builder) label {
	return b.argument(0, b.branch(opJEQ, afUnix, b.ret(Allow), b.ret(EAFNOSUPPORT)))
}

// Local, internet and routing sockets. Of the internet's only streams and
// datagrams of TCP and UDP: any other type or protocol makes the kernel load
// the module that has it.
func socketFamilies(b *builder) label {
	rare := b.ret(EPROTONOSUPPORT)
	common := rare
	for _, p := range []uint32{protoUDP, protoTCP, 0} {
		common = b.branch(opJEQ, p, b.ret(Allow), common)
	}
	common = b.argument(2, common)
	internet := rare
	for _, t := range []uint32{sockDgram, sockStream} {
		internet = b.branch(opJEQ, t, common, internet)
	}
	for _, t := range []uint32{sockPacket, sockRaw} {
		internet = b.branch(opJEQ, t, b.ret(EPERM), internet)
	}
	internet = b.argument(1, b.then(opAnd, sockTypeMask, internet))
	// Netlink sockets are raw by nature; only protocol 0, NETLINK_ROUTE, is of use.
	route := b.argument(2, b.branch(opJEQ, 0, b.ret(Allow), b.ret(EAFNOSUPPORT)))
	next := b.branch(opJEQ, afNetlink, route, b.ret(EAFNOSUPPORT))
	for _, f := range []uint32{afInet6, afInet} {
		next = b.branch(opJEQ, f, internet, next)
	}
	return b.argument(0, b.branch(opJEQ, afUnix, b.ret(Allow), next))
}
