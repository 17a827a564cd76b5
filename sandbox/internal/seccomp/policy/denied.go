package policy

// denied are the calls that are refused whatever their arguments. Those whose
// arguments are in memory, where a filter cannot look, get ENOSYS, and so do
// those that libraries can do without: they then fall back to an older call.
// docs/sandbox-policy.md gives the reason of each.
var denied = actions(map[uint32][]string{
	ENOSYS: {
		"clone3", "openat2",
		// Memory that no process maps and no limit counts; libraries fall back to
		// files in /dev/shm or /tmp, which do count.
		"memfd_create",
		"shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semtimedop_time64", "semctl", "msgget", "msgsnd", "msgrcv", "msgctl",
		// What the host has in its page cache.
		"cachestat",
		// No kernel has these.
		"afs_syscall", "arch_specific_syscall", "getpmsg", "putpmsg", "security", "tuxcall", "vserver",
	},
	EPERM: {
		// Mounts and namespaces, old interface and new.
		"mount", "umount", "umount2", "pivot_root", "chroot", "setns", "unshare",
		"open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
		// Other processes.
		"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
		// Large and young parts of the kernel.
		"io_uring_setup", "io_uring_enter", "io_uring_register",
		"bpf", "perf_event_open", "userfaultfd", "fanotify_init", "fanotify_mark", "memfd_secret",
		// The kernel's keys belong to the host's user.
		"add_key", "request_key", "keyctl",
		// The security modules are the host's.
		"lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules",
		// Files by handle pass by every directory's permissions.
		"open_by_handle_at", "name_to_handle_at",
		// The machine.
		"init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms",
		"kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd",
		"nfsservctl", "syslog", "_sysctl", "sysfs", "ustat", "uselib", "lookup_dcookie", "vhangup",
		"iopl", "ioperm", "modify_ldt", "vm86", "vm86old",
		"settimeofday", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex", "stime",
		"sethostname", "setdomainname",
		// Where memory lies on a machine of several nodes, also another process's.
		"mbind", "set_mempolicy", "set_mempolicy_home_node", "get_mempolicy", "migrate_pages", "move_pages", "remap_file_pages",
	},
})

func actions(byAction map[uint32][]string) map[string]uint32 {
	out := map[string]uint32{}
	for action, names := range byAction {
		for _, n := range names {
			out[n] = action
		}
	}
	return out
}
