package policy

import "golang.org/x/net/bpf"

// label is a place in the program, counted from its end.
type label int

// builder writes a program backwards: whatever an instruction jumps to is
// already there, so its distance is known. Distances of conditional jumps are
// limited to 255; further targets get a step in between.
type builder struct {
	reversed []bpf.RawInstruction
	returns  map[uint32]label
}

const (
	opLoad  = 0x20 // BPF_LD|BPF_W|BPF_ABS
	opJump  = 0x05 // BPF_JMP|BPF_JA
	opJEQ   = 0x15 // BPF_JMP|BPF_JEQ|BPF_K
	opJGE   = 0x35 // BPF_JMP|BPF_JGE|BPF_K
	opJSET  = 0x45 // BPF_JMP|BPF_JSET|BPF_K
	opAnd   = 0x54 // BPF_ALU|BPF_AND|BPF_K
	opRet   = 0x06 // BPF_RET|BPF_K
	maxJump = 255
)

func (b *builder) emit(i bpf.RawInstruction) label {
	b.reversed = append(b.reversed, i)
	return label(len(b.reversed) - 1)
}

func (b *builder) distance(to label) uint32 { return uint32(len(b.reversed) - int(to) - 1) }

// near returns a label within reach even after two more steps are emitted.
func (b *builder) near(to label) label {
	if b.distance(to)+2 <= maxJump {
		return to
	}
	return b.emit(bpf.RawInstruction{Op: opJump, K: b.distance(to)})
}

func (b *builder) branch(op uint16, k uint32, yes, no label) label {
	yes = b.near(yes)
	no = b.near(no)
	return b.emit(bpf.RawInstruction{Op: op, Jt: uint8(b.distance(yes)), Jf: uint8(b.distance(no)), K: k})
}

// then emits an instruction that goes on to next.
func (b *builder) then(op uint16, k uint32, next label) label {
	if b.distance(next) != 0 {
		b.emit(bpf.RawInstruction{Op: opJump, K: b.distance(next)})
	}
	return b.emit(bpf.RawInstruction{Op: op, K: k})
}

// load reads a word of struct seccomp_data.
func (b *builder) load(offset uint32, next label) label { return b.then(opLoad, offset, next) }

// argument loads the low word of an argument. Only that word is compared: the
// kernel ignores the high one of an int, so a 64-bit compare could be evaded.
func (b *builder) argument(n uint32, next label) label { return b.load(offsetArgs+8*n, next) }

func (b *builder) ret(action uint32) label {
	if l, ok := b.returns[action]; ok && b.distance(l)+2 <= maxJump {
		return l
	}
	l := b.emit(bpf.RawInstruction{Op: opRet, K: action})
	b.returns[action] = l
	return l
}

// program returns the instructions in order.
func (b *builder) program() []bpf.RawInstruction {
	p := make([]bpf.RawInstruction, len(b.reversed))
	for i, ins := range b.reversed {
		p[len(p)-1-i] = ins
	}
	return p
}
