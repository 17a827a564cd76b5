package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func (g *Group) makeV2(dir string, l Limits) error {
	if err := g.mkdir(dir); err != nil {
		return err
	}
	var err error
	if g.Dir, err = os.Open(dir); err != nil {
		return err
	}
	at := func(file string) string { return filepath.Join(dir, file) }
	g.CPU, g.CPUUnit = Gauge{at("cpu.stat"), "usage_usec "}, time.Microsecond
	g.Kills = Gauge{at("memory.events"), "oom_kill "}
	g.Refused = Gauge{at("pids.events"), "max "}
	g.peaks = [2]Gauge{{Path: at("memory.peak")}, {Path: at("pids.peak")}}
	return limitV2(dir, l)
}

func limitV2(dir string, l Limits) error {
	if l.Memory > 0 {
		if err := write(dir, "memory.max", strconv.FormatInt(l.Memory, 10)); err != nil {
			return err
		}
		if err := writeIf(dir, "memory.swap.max", "0"); err != nil {
			return err
		}
	}
	if l.Pids > 0 {
		if err := write(dir, "pids.max", strconv.Itoa(l.Pids)); err != nil {
			return err
		}
	}
	if l.CPUs > 0 {
		if err := write(dir, "cpu.max", fmt.Sprintf("%d %d", quota(l.CPUs), period)); err != nil {
			return err
		}
	}
	var rates strings.Builder
	if l.Read > 0 {
		fmt.Fprintf(&rates, " rbps=%d", l.Read)
	}
	if l.Write > 0 {
		fmt.Fprintf(&rates, " wbps=%d", l.Write)
	}
	if rates.Len() == 0 {
		return nil
	}
	disks, err := disks()
	if err != nil {
		return err
	}
	for _, disk := range disks {
		if err := write(dir, "io.max", disk+rates.String()); err != nil {
			return err
		}
	}
	return nil
}
