package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/gpu"
)

func newGPU(std stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "gpu",
		Short: "list the GPUs, and say which can be used or why none",
		Long: `List the NVIDIA GPUs as their driver sees them: memory, compute capability, MIG
instances, the processes that hold memory. Each is usable by the llama.cpp in this
program, or the reason is given with what to do about it.

The exit code is 0 when llama.cpp computes on a GPU, else 5.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return showGPUs(std, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// gpuListing is what 'gpu --json' prints.
type gpuListing struct {
	OK      bool        `json:"ok"` // llama.cpp computes on a GPU
	Problem string      `json:"problem,omitempty"`
	Remedy  string      `json:"remedy,omitempty"`
	Build   gpuBuild    `json:"build"`
	Used    []usedGPU   `json:"used"` // by llama.cpp
	Driver  gpu.Driver  `json:"driver"`
	Devices []gpuDevice `json:"devices"`
}

// gpuDevice is one GPU of the driver.
type gpuDevice struct {
	gpu.Device
	Usable  bool   `json:"usable"`
	Reason  string `json:"reason,omitempty"` // one of gpu.Reason, where it is not usable
	Problem string `json:"problem,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

func showGPUs(std stdio, asJSON bool) error {
	s := gpus.inspect()
	l := s.listing()
	var err error
	if asJSON {
		err = writeJSON(std.out, l)
	} else if len(l.Devices) > 0 || l.OK {
		err = writeGPUs(std.out, l)
	}
	if err != nil {
		return err
	}
	if s.err != nil {
		return &failure{code: exitGPU, err: s.err}
	}
	return nil
}

// listing joins what the driver and llama.cpp say.
func (s gpuState) listing() gpuListing {
	l := gpuListing{OK: s.err == nil, Build: s.build, Used: append([]usedGPU{}, s.used...), Driver: s.report.Driver, Devices: []gpuDevice{}}
	if s.err != nil {
		l.Problem, l.Remedy = explainGPU(s.err)
	}
	for _, d := range s.report.Devices {
		entry := gpuDevice{Device: d, Usable: slices.Contains(s.report.Usable, d.Index)}
		for _, r := range s.report.Refusals {
			if !entry.Usable && (r.Device == d.Index || r.Device < 0) {
				entry.Reason = string(r.Reason)
				entry.Problem, entry.Remedy = r.Text, r.Remedy
			}
		}
		l.Devices = append(l.Devices, entry)
	}
	return l
}

// writeGPUs writes a table, below each GPU what is on it.
func writeGPUs(out io.Writer, l gpuListing) error {
	var b strings.Builder
	if l.Driver.Version != "" {
		fmt.Fprintf(&b, "driver %s, runs CUDA %s; %s\n", l.Driver.Version, l.Driver.CUDA, l.Build)
	}
	for _, u := range l.Used {
		fmt.Fprintf(&b, "llama.cpp computes on %s\n", u)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, d := range l.Devices {
		state := "usable"
		if !d.Usable {
			state = d.Problem
		}
		if d.Err != nil {
			fmt.Fprintf(w, "GPU %d\t%s\t%s\n", d.Index, d.Name, state)
			continue
		}
		memory := "memory unknown"
		if d.Memory.Total > 0 {
			memory = fmt.Sprintf("%s of %s free", gpu.GiB(d.Memory.Free), gpu.GiB(d.Memory.Total))
		}
		fmt.Fprintf(w, "GPU %d\t%s\tcompute capability %s\t%s\t%s\n", d.Index, d.Name, d.ComputeCapability, memory, state)
		for _, p := range d.MIG.Instances {
			fmt.Fprintf(w, "  %s\t%s\t\t%s of %s free\t\n", p.UUID, p.Name, gpu.GiB(p.Memory.Free), gpu.GiB(p.Memory.Total))
		}
		for _, p := range d.Processes {
			name, memory := "unknown", "memory unknown"
			if p.Name != "" {
				name = path.Base(p.Name)
			}
			if p.Memory > 0 {
				memory = gpu.GiB(p.Memory)
			}
			fmt.Fprintf(w, "  process %d\t%s\t\t%s\t\n", p.PID, name, memory)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) { // tabwriter pads the last column too
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// gpuProblem is what the driver has no error for.
type gpuProblem struct{ problem, remedy string }

func (e *gpuProblem) Error() string { return e.problem + ": " + e.remedy }

// explainGPU tells problem and remedy of an error of inspect.
func explainGPU(err error) (problem, remedy string) {
	var own *gpuProblem
	if errors.As(err, &own) {
		return own.problem, own.remedy
	}
	return gpu.Explain(err)
}
