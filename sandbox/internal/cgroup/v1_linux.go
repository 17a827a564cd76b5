package cgroup

import (
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// period is the kernel's default of the time over which a share of the
// processors is kept, in µs.
const period = 100_000

// makeV1 makes a directory in each hierarchy that is needed. One hierarchy may
// have several controllers.
func (g *Group) makeV1(own map[string]string, name string, l Limits) error {
	need := []string{"memory", "pids", "cpu", "cpuacct"}
	if l.Read > 0 || l.Write > 0 {
		need = append(need, "blkio")
	}
	at := map[string]string{}
	for _, controller := range need {
		dir := filepath.Join(own[controller], name)
		at[controller] = dir
		if slices.Contains(g.dirs, dir) {
			continue
		}
		if err := g.mkdir(dir); err != nil {
			return err
		}
		g.Enter = append(g.Enter, filepath.Join(dir, "tasks"))
	}
	g.CPU, g.CPUUnit = Gauge{Path: filepath.Join(at["cpuacct"], "cpuacct.usage")}, time.Nanosecond
	g.Kills = Gauge{filepath.Join(at["memory"], "memory.oom_control"), "oom_kill "}
	g.Refused = Gauge{filepath.Join(at["pids"], "pids.events"), "max "}
	g.peaks = [2]Gauge{{Path: filepath.Join(at["memory"], "memory.max_usage_in_bytes")}, {Path: filepath.Join(at["pids"], "pids.peak")}}
	return limitV1(at, l)
}

func limitV1(at map[string]string, l Limits) error {
	if l.Memory > 0 {
		bytes := strconv.FormatInt(l.Memory, 10)
		if err := write(at["memory"], "memory.limit_in_bytes", bytes); err != nil {
			return err
		}
		// Swap beside it would be more memory; TCP's buffers count only if they have a limit.
		for _, file := range []string{"memory.memsw.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"} {
			if err := writeIf(at["memory"], file, bytes); err != nil {
				return err
			}
		}
		// Where the kernel does not count swap (swapaccount=0), nothing may go there.
		if err := writeIf(at["memory"], "memory.swappiness", "0"); err != nil {
			return err
		}
	}
	if l.Pids > 0 {
		if err := write(at["pids"], "pids.max", strconv.Itoa(l.Pids)); err != nil {
			return err
		}
	}
	if l.CPUs > 0 {
		if err := write(at["cpu"], "cpu.cfs_quota_us", strconv.FormatInt(quota(l.CPUs), 10)); err != nil {
			return err
		}
	}
	if l.Read <= 0 && l.Write <= 0 {
		return nil
	}
	disks, err := disks()
	if err != nil {
		return err
	}
	for _, disk := range disks {
		for file, rate := range map[string]int64{"blkio.throttle.read_bps_device": l.Read, "blkio.throttle.write_bps_device": l.Write} {
			if rate <= 0 {
				continue
			}
			if err := write(at["blkio"], file, disk+" "+strconv.FormatInt(rate, 10)); err != nil {
				return err
			}
		}
	}
	return nil
}

// quota is processors as time in a period; the kernel takes no less than 1 ms, and
// no host has a million processors.
func quota(cpus float64) int64 { return max(int64(min(cpus, 1e6)*period), 1000) }
