package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// Any Config is a typed error or a run that ends, and leaves nothing. What is run is
// /bin/true, whatever is lent to it.
func FuzzConfig(f *testing.F) {
	type seed struct {
		dir, key, value, source, target, device, rule string
		flags                                         byte
		wall, cpu, memory, disk, output               int64
		pids, files, level, net                       int
	}
	for _, s := range []seed{
		{}, {dir: "/tmp", key: "A", value: "b", source: "/usr", target: "/data", wall: 1, flags: 255},
		{dir: "/proc/self/fd/3/..", key: "LD_PRELOAD", value: "/x", source: "/proc", target: "/", memory: -1, pids: 2, net: 1, rule: "*:443"},
		{dir: "\x00", key: "=", value: "\xff", source: "..", target: "/../x", device: "/dev/nvidia0", output: 1, disk: 1, files: 3, level: 3, net: 2},
		{dir: "/workspace", device: "/dev/null", cpu: 1 << 62, memory: 1, disk: 1 << 62, files: 1 << 40, pids: 1 << 40, level: 1, net: 1, rule: "10.0.0.0/8:5432"},
	} {
		f.Add(s.dir, s.key, s.value, s.source, s.target, s.device, s.rule, s.flags, s.wall, s.cpu, s.memory, s.disk, s.output, s.pids, s.files, s.level, s.net)
	}
	ws := f.TempDir()
	f.Fuzz(func(t *testing.T, dir, key, value, source, target, device, rule string, flags byte,
		wall, cpu, memory, disk, output int64, pids, files, level, net int) {
		c := Config{Dir: dir, MinLevel: Level(level), Net: Net(net), StopAtOutput: flags&1 != 0,
			Limits: Limits{Wall: time.Duration(wall % int64(2*time.Second)), CPU: time.Duration(cpu), Memory: memory, Disk: disk, Output: output, Pids: pids, Files: files}}
		if flags&2 != 0 {
			c.Workspace = ws
		}
		if flags&4 != 0 {
			c.Env = map[string]string{key: value}
		}
		if flags&8 != 0 {
			c.Binds = []Bind{{source, target, flags&16 != 0}}
		}
		if flags&32 != 0 {
			c.Devices = []string{device}
		}
		if flags&64 != 0 {
			c.Allow.Rules = []string{rule}
		}
		if flags&128 != 0 {
			c.Stdin = strings.NewReader(value)
		}
		begin := time.Now()
		p, err := Start(context.Background(), c, "/bin/true")
		if err == nil {
			_, err = p.Wait()
		}
		if took := time.Since(begin); took > time.Minute+deadline {
			t.Fatalf("%+v took %v", c, took)
		}
		if err != nil && !errors.Is(err, ErrUnsupported) && errorClass(err) == "other" {
			t.Fatalf("%+v: an error without a type: %T %v", c, err, err)
		}
		if left := remainingChildren(); len(left) > 0 {
			t.Fatalf("%+v left %q", c, left)
		}
		if left, _ := filepath.Glob(ws + "/*"); len(left) > 0 {
			t.Fatalf("%+v left %v", c, left)
		}
	})
}

// Whatever the helper is sent, it ends by itself, with an error, with what became of
// the command, or silently where the caller was gone before it had asked for
// anything. It is nobody, so that what it is told to do is harmless.
func FuzzHelperRequest(f *testing.F) {
	c := Config{Env: map[string]string{"A": "b"}}
	request, _, err := c.request("/bin/true", []string{"true"})
	if err != nil {
		f.Fatal(err)
	}
	whole := request.Encode()
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:8])
	f.Add([]byte{})
	f.Add(append(bytes.Clone(whole), proto.EncodeSignal(9, proto.TargetPayload)...))
	small := proto.Request{Build: proto.Build{UID: 1000, GID: 1000, Hostname: "x", TmpfsSize: "1048576", TmpfsInodes: "64", Filter: request.Filter},
		Run: proto.Run{Path: "/bin/true", Dir: "/", Argv: []string{"true"}}}
	f.Add(small.Encode())
	request.Flags = proto.FlagSession
	f.Add(request.Encode())

	path := filepath.Join(f.TempDir(), "helper")
	for d := filepath.Dir(path); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			f.Fatal(err)
		}
	}
	if err := os.WriteFile(path, helper.Binary(), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		cmd := &exec.Cmd{Path: path, Args: []string{"helper"}, Env: []string{}, ExtraFiles: []*os.File{theirs}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
		if os.Geteuid() == 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: dedicatedID, Gid: dedicatedID}
		}
		err = cmd.Start()
		theirs.Close()
		if err != nil {
			t.Fatal(err)
		}
		hangs := time.AfterFunc(4*deadline, func() { _ = cmd.Process.Signal(unix.SIGABRT) })
		defer hangs.Stop()
		_ = ours.SetDeadline(time.Now().Add(4 * deadline))
		_, _ = ours.Write(b)
		told := ""
		reply := receiver{file: ours}
		// Then it is not the end of the caller that ends it. Another filter than ours may forbid it to say anything.
		if wholeFrames(b) >= 2 && bytes.Contains(b, request.Filter) {
			frame, err := proto.Read(&reply)
			if err != nil {
				t.Fatalf("the helper said nothing: %v, %v", err, cmd.Wait())
			}
			told = fmt.Sprintf("%T ", frame)
		}
		raw, err := ours.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
		}
		if err != nil {
			t.Fatal(err)
		}
		for {
			frame, err := proto.Read(&reply)
			if err != nil {
				if errors.Is(err, proto.ErrMalformed) {
					t.Fatalf("%v after %s", err, told)
				}
				break
			}
			told += fmt.Sprintf("%T ", frame)
		}
		for _, file := range reply.files {
			file.Close()
		}
		_ = cmd.Wait()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			t.Fatalf("the helper was ended by %v after %q", status.Signal(), told)
		}
		if left := remainingChildren(); len(left) > 0 {
			t.Fatalf("left: %q", left)
		}
	})
}

// remainingChildren are what is there of descendants at the deadline: the kernel takes
// namespaces down in the background, those of the test before too.
func remainingChildren() []string {
	for begin := time.Now(); time.Since(begin) < deadline; time.Sleep(time.Millisecond) {
		if len(descendants(os.Getpid())) == 0 {
			return nil
		}
	}
	return childStats()
}

// wholeFrames counts the frames that a reader of headers finds whole.
func wholeFrames(b []byte) int {
	const header = 8
	n := 0
	for ; len(b) >= header; n++ {
		length := uint64(binary.LittleEndian.Uint32(b[4:]))
		if uint64(len(b)-header) < length {
			break
		}
		b = b[header+length:]
	}
	return n
}
