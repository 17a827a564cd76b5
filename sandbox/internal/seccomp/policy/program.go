// Package policy makes the sandbox's system call filters, for every supported
// architecture on any of them. It is used by the generator and by tests; the
// sandbox itself embeds the generated programs.
package policy

import (
	"encoding/binary"
	"fmt"
	"maps"
	"sort"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
)

// Actions of a filter (linux/seccomp.h) and the errors it gives.
const (
	Allow        uint32 = 0x7fff0000 // SECCOMP_RET_ALLOW
	KillProcess  uint32 = 0x80000000 // SECCOMP_RET_KILL_PROCESS
	errnoAction  uint32 = 0x00050000 // SECCOMP_RET_ERRNO
	EPERM        uint32 = errnoAction | 1
	ENOSYS       uint32 = errnoAction | 38
	EAFNOSUPPORT uint32 = errnoAction | 97

	EPROTONOSUPPORT uint32 = errnoAction | 93
)

const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
	x32Bit       = 0x40000000
	noCall       = 0xffffffff // -1, which programs use for a call that they were compiled without
)

// Arch returns the system call table of a GOARCH.
func Arch(goarch string) (*arch.Info, error) {
	switch goarch {
	case "amd64":
		return arch.X86_64, nil
	case "arm64":
		return arch.AARCH64, nil
	}
	return nil, fmt.Errorf("no system call table for %s", goarch)
}

// Profile is one set of rules: what is in neither map is allowed.
type Profile struct {
	Name   string
	denied map[string]uint32
	rules  map[string]rule
}

var (
	// Namespaces is for a payload in namespaces of its own.
	Namespaces = Profile{Name: "namespaces", denied: denied, rules: rules}
	// Landlock is for a payload that has only Landlock and this filter.
	Landlock = Namespaces.stricter("landlock", landlockDenied, landlockRules)
)

// Profiles are all of them.
var Profiles = []Profile{Namespaces, Landlock}

// stricter returns p with calls refused, or with another rule for them.
func (p Profile) stricter(name string, refused map[string]uint32, replaced map[string]rule) Profile {
	out := Profile{Name: name, denied: maps.Clone(p.denied), rules: maps.Clone(p.rules)}
	for call, action := range refused {
		out.denied[call] = action
		delete(out.rules, call)
	}
	maps.Copy(out.rules, replaced)
	return out
}

// File is the name of the generated program for a GOARCH.
func (p Profile) File(goarch string) string { return p.Name + "_" + goarch + ".bin" }

// Program returns the filter for a GOARCH.
//
// A foreign ABI (i386 by int 0x80, x32, arm) kills the process: its numbers
// mean other calls. A number that the table does not know gets ENOSYS, as on
// an older kernel. A named call is allowed unless a rule says otherwise.
func (p Profile) Program(goarch string) ([]bpf.RawInstruction, error) {
	info, err := Arch(goarch)
	if err != nil {
		return nil, err
	}
	numbers := make([]int, 0, len(info.SyscallNumbers))
	for n := range info.SyscallNumbers {
		numbers = append(numbers, n)
	}
	sort.Ints(numbers)

	b := &builder{returns: map[uint32]label{}}
	targets := map[string]label{}
	for _, n := range numbers {
		if r, ok := p.rules[info.SyscallNumbers[n]]; ok {
			targets[info.SyscallNumbers[n]] = r(b)
		}
	}
	// Everything else, as ranges of numbers that share an action.
	var ranges []span
	add := func(start int, s span) {
		s.start = uint32(start)
		if k := len(ranges) - 1; k >= 0 && ranges[k].same(s) {
			return
		}
		ranges = append(ranges, s)
	}
	next := 0
	for _, n := range numbers {
		if n > next {
			add(next, span{action: ENOSYS})
		}
		if l, ok := targets[info.SyscallNumbers[n]]; ok {
			add(n, span{block: true, target: l})
		} else if action, ok := p.denied[info.SyscallNumbers[n]]; ok {
			add(n, span{action: action})
		} else {
			add(n, span{action: Allow})
		}
		next = n + 1
	}
	add(next, span{action: ENOSYS})

	start := b.search(ranges)
	if goarch == "amd64" {
		foreign := b.branch(opJEQ, noCall, b.ret(ENOSYS), b.ret(KillProcess))
		start = b.branch(opJGE, x32Bit, foreign, start)
	}
	start = b.load(offsetNumber, start)
	start = b.branch(opJEQ, uint32(info.ID), start, b.ret(KillProcess))
	b.load(offsetArch, start)
	return b.program(), nil
}

// span is a range of numbers, up to the next span's start.
type span struct {
	start  uint32
	action uint32
	block  bool
	target label
}

func (s span) same(o span) bool {
	return s.block == o.block && s.action == o.action && s.target == o.target
}

// search finds the number's span by halving: the kernel runs the filter for
// every number when it is loaded, to find those it may skip later.
func (b *builder) search(s []span) label {
	if len(s) == 1 {
		if s[0].block {
			return s[0].target
		}
		return b.ret(s[0].action)
	}
	mid := len(s) / 2
	high := b.search(s[mid:])
	low := b.search(s[:mid])
	return b.branch(opJGE, s[mid].start, high, low)
}

// Encode returns a program as the kernel's array of struct sock_filter.
func Encode(p []bpf.RawInstruction) []byte {
	out := make([]byte, 0, 8*len(p))
	for _, i := range p {
		out = binary.LittleEndian.AppendUint16(out, i.Op)
		out = append(out, i.Jt, i.Jf)
		out = binary.LittleEndian.AppendUint32(out, i.K)
	}
	return out
}
