package policy

// Without namespaces of its own the payload shares the host's processes, network
// and queues with the caller's user, and the paths that it may not open are
// there: what Landlock does not see is refused here.
var (
	landlockDenied = actions(map[uint32][]string{
		// A socket reaches the host's network, an abstract one its services.
		EAFNOSUPPORT: {"socket"},
		// Libraries fall back to looking again and again.
		ENOSYS: {"inotify_init", "inotify_init1", "inotify_add_watch"},
		EPERM: {
			// Of any file of the user, by its path. By descriptor it is allowed:
			// Landlock has seen the opening.
			"chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "utime", "utimes", "futimesat",
			"setxattr", "lsetxattr", "setxattrat", "removexattr", "lremovexattr", "removexattrat",
			// The queues of the host.
			"mq_open", "mq_unlink",
		},
	})

	landlockRules = map[string]rule{
		"socketpair":         connectedPairs,
		"utimensat":          onlyNull(1),
		"utimensat_time64":   onlyNull(1),
		"prlimit64":          onlySelf(0),
		"sched_setparam":     onlySelf(0),
		"sched_setscheduler": onlySelf(0),
		"sched_setattr":      onlySelf(0),
		"sched_setaffinity":  onlySelf(0),
		"setpriority":        onlySelfNotUser(prioUser),
		"ioprio_set":         onlySelfNotUser(ioprioWhoUser),
	}
)

// connectedPairs: a datagram socket of a pair can be sent elsewhere, to a service of the host.
func connectedPairs(b *builder) label {
	next := b.ret(EPROTONOSUPPORT)
	for _, kind := range []uint32{sockStream, sockSeqpacket} {
		next = b.branch(opJEQ, kind, b.ret(Allow), next)
	}
	next = b.argument(1, b.then(opAnd, sockTypeMask, next))
	return b.argument(0, b.branch(opJEQ, afUnix, next, b.ret(EAFNOSUPPORT)))
}

// onlySelf allows 0, which is the caller itself.
func onlySelf(arg uint32) rule {
	return func(b *builder) label {
		return b.argument(arg, b.branch(opJEQ, 0, b.ret(Allow), b.ret(EPERM)))
	}
}

func onlySelfNotUser(user uint32) rule {
	return func(b *builder) label {
		return b.argument(0, b.branch(opJEQ, user, b.ret(EPERM), onlySelf(1)(b)))
	}
}

// onlyNull allows a pointer, which has a high word too, if it is NULL.
func onlyNull(arg uint32) rule {
	return func(b *builder) label {
		high := b.load(offsetArgs+8*arg+4, b.branch(opJEQ, 0, b.ret(Allow), b.ret(EPERM)))
		return b.argument(arg, b.branch(opJEQ, 0, high, b.ret(EPERM)))
	}
}
