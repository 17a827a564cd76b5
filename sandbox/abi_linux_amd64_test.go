package sandbox

// Another ABI's numbers mean other calls: the filter kills.
var foreignABI = []attack{
	{0, "int80", "SIGSYS", onHost, "ok"}, // needs a kernel with the i386 entry
	{0, "x32", "SIGSYS", onHost, "ENOSYS"},
}

// oldCalls are those that only this architecture has.
var oldCalls = []string{"iopl", "ioperm", "modify_ldt", "sysfs", "ustat", "kexec_file_load", "create_module"}

const uprobeCall = 336
