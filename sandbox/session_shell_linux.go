package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// maxReport is more than the longest report: a path and some numbers.
const maxReport = 8 << 10

var errEnded = errors.New("the shell has ended")

type shellState int

const (
	shellBusy   shellState = iota // it runs something, or has not started yet
	shellReady                    // the driver waits for a command
	shellPrompt                   // it has shown its prompt
)

// report is what the driver says when it comes to rest.
type report struct {
	nonce  string // of the command that has ended, or ""
	status int
	state  shellState
	dir    string
}

// call is the command that the shell has been sent.
type call struct {
	nonce, message string
	result         report
	done           chan struct{} // closed once result is set
	looks, nudges  int           // of deliver
}

// shell is the driver's side of a session: what the shell is doing, and the
// socket to it.
type shell struct {
	socket  *os.File
	master  *os.File
	process *process
	lost    chan struct{} // closed when the shell has closed its end

	mu          sync.Mutex
	state       shellState
	changed     chan struct{} // closed and replaced when state changes
	call        *call         // in flight, or nil
	waiting     bool          // an Exec wants the shell
	interactive bool          // the prompt is wanted when no Exec is
	next        string        // the message to be sent
	sending     bool          // flush runs
	group       int           // the shell's own process group
}

func newShell(socket, master *os.File, p *process) *shell {
	return &shell{socket: socket, master: master, process: p, lost: make(chan struct{}), changed: make(chan struct{})}
}

// listen reads the reports of the driver until the shell closes its end.
func (h *shell) listen() {
	defer close(h.lost)
	in := bufio.NewReaderSize(h.socket, maxReport)
	for {
		text, err := in.ReadSlice(0)
		if errors.Is(err, bufio.ErrBufferFull) {
			h.process.kill() // this is not the driver
		}
		if err != nil {
			return
		}
		if r, ok := parseReport(strings.TrimSuffix(string(text), "\x00")); ok {
			h.settle(r)
		}
	}
}

func parseReport(text string) (r report, ok bool) {
	fields := strings.SplitN(text, " ", 4)
	if len(fields) != 4 {
		return r, false
	}
	status, err := strconv.Atoi(fields[1])
	states := map[string]shellState{"r": shellReady, "p": shellPrompt}
	state, known := states[fields[2]]
	return report{fields[0], status, state, fields[3]}, err == nil && known
}

// settle takes a report and gives the shell what it is to do next.
func (h *shell) settle(r report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = r.state
	if h.group == 0 {
		h.group, _ = h.foreground()
	}
	switch {
	case h.call != nil && h.call.nonce == r.nonce:
		h.call.result = r
		close(h.call.done)
		h.call = nil
	case h.call != nil && r.state == shellReady:
		h.send(h.call.message) // a signal has cut it in two
	}
	h.offerPrompt()
	close(h.changed)
	h.changed = make(chan struct{})
}

// offerPrompt lets an idle shell show its prompt, if that is wanted.
func (h *shell) offerPrompt() {
	if h.interactive && h.state == shellReady && h.call == nil && !h.waiting {
		h.send("P\x00")
	}
}

// send gives the driver, which is ready, a message. It does not wait: the shell may
// have been stopped.
func (h *shell) send(message string) {
	h.state, h.next = shellBusy, message
	if !h.sending {
		h.sending = true
		go h.flush()
	}
}

func (h *shell) flush() {
	for {
		h.mu.Lock()
		message := h.next
		h.next, h.sending = "", message != ""
		h.mu.Unlock()
		if message == "" {
			return
		}
		// It fails only when the shell is gone, which listen notices.
		_, _ = h.socket.WriteString(message)
	}
}

// wantPrompt is called before something is typed: what runs for an Exec gets it,
// and else the shell itself.
func (h *shell) wantPrompt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.call == nil {
		h.interactive = true
		h.offerPrompt()
	}
}

// await returns once the shell is ready and keeps it so. At the prompt it is
// brought back to the driver, as by Ctrl-C.
func (h *shell) await(ctx context.Context, ended <-chan struct{}) error {
	tick := time.NewTicker(promptPoll)
	defer tick.Stop()
	for nudges, next := 0, time.Now(); ; {
		h.mu.Lock()
		h.waiting = true
		state, changed := h.state, h.changed
		h.mu.Unlock()
		if state == shellReady {
			return nil
		}
		// Each is given time to work: a second signal just when the first one does can
		// leave readline with the terminal in the shell's own mode, where it is not seen.
		if h.atPrompt() && !time.Now().Before(next) {
			h.nudge(nudges)
			nudges++
			next = time.Now().Add(nudgePatience)
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ended:
			return errEnded
		case <-h.lost:
			return errEnded
		case <-ctx.Done():
			h.release()
			return fmt.Errorf("sandbox: the shell is at work for the terminal: %w", ctx.Err())
		}
	}
}

// release gives the shell back to the terminal.
func (h *shell) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = false
	h.offerPrompt()
}

// begin sends the shell, which is ready, a command.
func (h *shell) begin(nonce, command string) *call {
	c := &call{nonce: nonce, message: nonce + command + nonce + "\x00", done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.call, h.waiting = c, false
	h.send(c.message)
	return c
}

// deliver looks after a command that was sent, and says whether it is still to be read: a
// signal that was to bring the shell from its prompt may come when it has left already, and
// put it there again.
func (h *shell) deliver(c *call) bool {
	if !h.unread() {
		return false
	}
	c.looks++
	// One that is merely slow must not be interrupted: it may begin with the command just then.
	group, mode := h.foreground()
	if group == h.ownGroup() && (mode == modeReadline || c.looks > hiddenPrompt) {
		h.nudge(c.nudges)
		c.nudges++
	}
	return true
}

// unread says whether the shell has still to read something (SIOCOUTQ, unix(7)).
func (h *shell) unread() bool {
	h.mu.Lock()
	pending := h.sending || h.state == shellPrompt // it has told that it does not read
	h.mu.Unlock()
	raw, err := h.socket.SyscallConn()
	if pending || err != nil {
		return pending
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n > 0
}

const (
	promptPoll    = 20 * time.Millisecond
	nudgePatience = 100 * time.Millisecond
	politeNudges  = 5
	// hiddenPrompt is the looks after which a shell is taken to be at its prompt although the terminal does not tell.
	hiddenPrompt = 30
)

// nudge makes a shell at its prompt run its PROMPT_COMMAND, or, where that has been
// replaced or SIGINT is trapped, the driver itself.
func (h *shell) nudge(n int) {
	h.resume()
	if n < politeNudges {
		_ = h.process.signalTo(syscall.SIGINT, proto.TargetPayload)
		return
	}
	if n%politeNudges == 0 {
		const killLine = "\x15\x0b" // in readline, whatever is left and right of the cursor
		h.typeNow(killLine + ` \builtin eval "$__lm_driver"` + "\r")
	}
}

// resume lets a terminal go on that Ctrl-S has stopped, as Ctrl-C does: the shell itself
// would wait for it.
func (h *shell) resume() {
	raw, err := h.master.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err == nil && t.Iflag&unix.IXON != 0 { // otherwise it is a character as any other
			_, _ = unix.Write(int(fd), []byte{t.Cc[unix.VSTART]})
		}
	})
}

// typeNow does not wait: what reads the terminal may not be the shell's prompt, and
// somebody may wait in a Write already.
func (h *shell) typeNow(text string) {
	if raw, err := h.master.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.Write(int(fd), []byte(text)) })
	}
}

// atPrompt says whether the shell reads a line: it is in the foreground and
// readline has the terminal in its own mode, or a command has left it much like that.
func (h *shell) atPrompt() bool {
	group, mode := h.foreground()
	return group != 0 && group == h.ownGroup() && mode >= modeRaw
}

func (h *shell) ownGroup() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.group
}

// mode is how a terminal gives what is typed to programs.
type mode int

const (
	modeCooked   mode = iota
	modeRaw           // by the character, and not shown
	modeReadline      // and without the lnext character, which readline takes away
)

// foreground is the terminal's process group, or 0, and its mode.
func (h *shell) foreground() (group int, now mode) {
	raw, err := h.master.SyscallConn()
	if err != nil {
		return 0, modeCooked
	}
	_ = raw.Control(func(fd uintptr) {
		pgrp, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP)
		if err != nil {
			return
		}
		if t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
			group = pgrp
			if t.Lflag&(unix.ICANON|unix.ECHO) == 0 {
				now = modeRaw
				if t.Cc[unix.VLNEXT] == 0 {
					now = modeReadline
				}
			}
		}
	})
	return group, now
}
