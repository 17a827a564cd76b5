package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const userHZ = 100 // of /proc (proc_stat(5))

// cpuMeter tells how much of the machine other processes used, as a share of all
// its cores.
type cpuMeter struct {
	busy, own float64
	start     time.Time
}

func startCPUMeter() (cpuMeter, error) {
	busy, own, err := cpuSeconds()
	return cpuMeter{busy: busy, own: own, start: time.Now()}, err
}

// foreign is the share since the start that neither this process nor those that it
// started have used.
func (m cpuMeter) foreign() (float64, error) {
	busy, own, err := cpuSeconds()
	others := busy - m.busy - (own - m.own)
	return max(0, others) / (time.Since(m.start).Seconds() * float64(runtime.NumCPU())), err
}

// cpuSeconds is the CPU time that all processes have used, and that of this one
// with its descendants, living and ended.
func cpuSeconds() (busy, own float64, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	if busy, err = parseBusy(data); err != nil {
		return 0, 0, err
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var ru syscall.Rusage
		if err := syscall.Getrusage(who, &ru); err != nil {
			return 0, 0, err
		}
		own += time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
	}
	below, err := descendants(os.Getpid())
	for _, p := range below {
		own += p.seconds
	}
	return busy, own, err
}

// parseBusy reads the first line of /proc/stat: all that is neither idle nor waiting
// for a disk, with what the hypervisor took away.
func parseBusy(stat []byte) (float64, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var user, nice, system, idle, iowait, irq, softirq, steal float64
	if _, err := fmt.Sscanf(string(line), "cpu %f %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return 0, fmt.Errorf("/proc/stat: %w", err)
	}
	return (user + nice + system + irq + softirq + steal) / userHZ, nil
}

// process is a line of /proc/PID/stat.
type process struct {
	pid, parent int
	seconds     float64 // its CPU time and that of its ended children
}

// parseProcess reads /proc/PID/stat; the program's name in it may hold anything.
func parseProcess(stat string) (process, error) {
	pid, rest, ok := strings.Cut(stat, " (")
	end := strings.LastIndexByte(rest, ')')
	if !ok || end < 0 {
		return process{}, fmt.Errorf("/proc/PID/stat is %q", stat)
	}
	fields := strings.Fields(rest[end+1:])
	if len(fields) < 15 {
		return process{}, fmt.Errorf("/proc/PID/stat is %q", stat)
	}
	var p process
	var errs []error
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		errs = append(errs, err)
		return n
	}
	p.pid, p.parent = number(pid), number(fields[1])
	ticks := 0
	for _, f := range fields[11:15] { // utime stime cutime cstime
		ticks += number(f)
	}
	p.seconds = float64(ticks) / userHZ
	return p, errors.Join(errs...)
}

// descendants are the living processes below root.
func descendants(root int) ([]process, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		p, err := parseProcess(string(data))
		if err != nil {
			return nil, err
		}
		children[p.parent] = append(children[p.parent], p)
	}
	below := children[root]
	for i := 0; i < len(below); i++ {
		below = append(below, children[below[i].pid]...)
	}
	return below, nil
}
