package gpu

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Requirements are what a program needs of a GPU. The zero value wants one that CUDA can use.
type Requirements struct {
	CUDA       Version   // of the toolkit that the program was built with; zero = any
	Archs      []Version // compute capabilities that it was compiled for; none = any
	FreeMemory uint64    // bytes that must be free on the usable GPUs together, since llama.cpp splits a model over them
	Devices    int       // GPUs that must be usable; 0 = 1
}

// Report is the outcome of a check.
type Report struct {
	Driver   Driver     `json:"driver"`
	Devices  []Device   `json:"devices"`  // all that the driver lists
	Usable   []int      `json:"usable"`   // Device.Index of those that a program with these requirements can use
	Refusals []*Refusal `json:"refusals"` // why the others are not
}

// Check opens the library, checks and closes it again: [Library.Check].
//
// # Errors
//
// Those of [Open] and of [Library.Check].
func Check(r Requirements) (Report, error) {
	l, err := Open()
	if err != nil {
		return Report{}, err
	}
	report, err := l.Check(r)
	return report, errors.Join(err, l.Close())
}

// Check tells which GPUs a program with these requirements can use, before it is made to try. CUDA_VISIBLE_DEVICES and
// CUDA_DEVICE_ORDER are taken from the environment of this process. What can not be known, such as the free memory of
// a GPU that does not tell, is no reason to refuse.
//
// # Errors
//
//   - [*ErrRefused] when the requirements are not met; the report is complete all the same
//   - those of [Library.Devices]
func (l *Library) Check(r Requirements) (Report, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.src == nil {
		return Report{}, ErrClosed
	}
	devices, err := l.src.devices()
	if err != nil {
		return Report{}, err
	}
	c := checker{host: l.host, need: r, report: Report{Driver: l.src.driver(), Devices: devices, Usable: []int{}, Refusals: []*Refusal{}}}
	if c.machine(l.src.cuda()) {
		c.each()
	}
	if len(c.unmet) > 0 {
		return c.report, &ErrRefused{Refusals: c.unmet}
	}
	return c.report, nil
}

type checker struct {
	host   Host
	need   Requirements
	report Report
	unmet  []*Refusal // why the requirements are not met
}

func (c *checker) refuse(r *Refusal) { c.report.Refusals = append(c.report.Refusals, r) }

// refuseAll is for what keeps every GPU from being used.
func (c *checker) refuseAll(r *Refusal) {
	r.Device = -1
	c.refuse(r)
	c.unmet = append(c.unmet, r)
}

// machine checks what concerns all GPUs.
func (c *checker) machine(libcuda error) bool {
	d := c.report.Driver
	switch {
	case len(c.report.Devices) == 0:
		remedy := "see that lspci and nvidia-smi list it"
		if c.host.inContainer() {
			remedy = remedyContainer
		}
		c.refuseAll(&Refusal{Reason: ReasonNoDevice, Text: "the NVIDIA driver lists no GPU", Remedy: remedy})
	case libcuda != nil:
		remedy := "install the driver's CUDA library (Ubuntu: libnvidia-compute-VERSION), then run ldconfig"
		if c.host.inContainer() {
			remedy = "set NVIDIA_DRIVER_CAPABILITIES=compute,utility for the container"
		} else if strings.HasPrefix(d.Library, "/") {
			remedy = "tell the loader where the driver is: LD_LIBRARY_PATH=" + path.Dir(d.Library)
		}
		c.refuseAll(&Refusal{Reason: ReasonNoCUDALibrary, Text: "CUDA's " + cudaLibraryName + " cannot be loaded (" + libcuda.Error() + ")", Remedy: remedy, Cause: libcuda})
	case c.need.CUDA.Major > d.CUDA.Major:
		c.refuseAll(tooOld(d, c.need.CUDA))
	default:
		return true
	}
	return false
}

// minimumDrivers are the oldest drivers that run programs of a major version of CUDA.
// Source: CUDA Toolkit release notes, "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility"
var minimumDrivers = map[int]string{11: "450.80.02", 12: "525.60.13", 13: "580"}

func tooOld(d Driver, need Version) *Refusal {
	remedy := "install a newer driver, or build with an older CUDA"
	if minimum := minimumDrivers[need.Major]; minimum != "" {
		remedy = fmt.Sprintf("install driver %s or newer, or build with an older CUDA", minimum)
	}
	cause := &ErrDriverTooOld{Driver: d.Version, CUDA: d.CUDA, Need: need, Remedy: remedy}
	text, _ := cause.explain()
	return &Refusal{Reason: ReasonDriverTooOld, Text: text, Remedy: remedy, Cause: cause}
}

// each checks the GPUs one by one, then whether those that are left suffice.
func (c *checker) each() {
	shown := visible(c.host.LookupEnv, c.report.Devices)
	var free uint64
	known := true // all usable GPUs tell how much is free
	var usable []Device
	for _, d := range c.report.Devices {
		if r := c.device(d, shown); r != nil {
			r.Device, r.Name = d.Index, d.Name
			c.refuse(r)
			continue
		}
		m := d.Memory
		if d.MIG.Enabled {
			m = d.MIG.Instances[shown.instance(d.Index)].Memory
		}
		known = known && m.Total > 0
		free += m.Free
		usable = append(usable, d)
		c.report.Usable = append(c.report.Usable, d.Index)
	}
	switch want := max(c.need.Devices, 1); {
	case len(usable) == 0:
		c.unmet = append(c.unmet, c.report.Refusals...)
	case len(usable) < want:
		r := &Refusal{Device: -1, Reason: ReasonNoDevice, Text: fmt.Sprintf("%d of the %d GPUs that are needed can be used", len(usable), want), Remedy: "use fewer"}
		c.unmet = append(append(c.unmet, r), c.report.Refusals...)
		c.refuse(r)
	case known && free < c.need.FreeMemory:
		r := &Refusal{Device: -1, Reason: ReasonMemory,
			Text:   fmt.Sprintf("%s of GPU memory are needed and %s are free%s", GiB(c.need.FreeMemory), GiB(free), holders(usable)),
			Remedy: "end what holds it, take a smaller model or context, or put fewer layers on the GPU"}
		if len(usable) == 1 {
			r.Device, r.Name = usable[0].Index, usable[0].Name
		}
		c.refuse(r)
		c.unmet = append(c.unmet, r)
	}
}

// device checks what concerns one GPU.
func (c *checker) device(d Device, shown visibility) *Refusal {
	if d.Err != nil {
		r := &Refusal{Reason: ReasonNoAnswer, Cause: d.Err}
		r.Text, r.Remedy = Explain(d.Err)
		if errors.As(d.Err, new(*ErrPermission)) {
			r.Reason = ReasonPermission
		}
		return r
	}
	if !shown.has(d.Index) {
		return &Refusal{Reason: ReasonHidden, Text: fmt.Sprintf("hidden by CUDA_VISIBLE_DEVICES=%q", shown.value), Remedy: "unset it, or name " + d.UUID}
	}
	if r := c.host.nodes(d.Minor); r != nil {
		return r
	}
	if d.MIG.Enabled && len(d.MIG.Instances) == 0 {
		return &Refusal{Reason: ReasonMIG, Text: "MIG is enabled and no instance was made", Remedy: "make one (sudo nvidia-smi mig -i " + strconv.Itoa(d.Index) + " -cgi 0 -C) or turn MIG off (sudo nvidia-smi -i " + strconv.Itoa(d.Index) + " -mig 0)"}
	}
	switch {
	case d.ComputeMode == ComputeProhibited:
		return &Refusal{Reason: ReasonComputeMode, Text: "its compute mode is prohibited", Remedy: "sudo nvidia-smi -i " + strconv.Itoa(d.Index) + " -c DEFAULT"}
	case d.ComputeMode == ComputeExclusiveProcess && len(d.Processes) > 0:
		return &Refusal{Reason: ReasonComputeMode, Text: "its compute mode is exclusive_process" + holders([]Device{d}), Remedy: "end that, or sudo nvidia-smi -i " + strconv.Itoa(d.Index) + " -c DEFAULT"}
	}
	return c.arch(d)
}

// arch checks that the program has code for the GPU: machine code of the same major version, which runs on the later
// minor ones, or code of an older version that the driver compiles when it is loaded.
func (c *checker) arch(d Device) *Refusal {
	cc := d.ComputeCapability
	if len(c.need.Archs) == 0 || cc == (Version{}) {
		return nil
	}
	older := slices.DeleteFunc(slices.Clone(c.need.Archs), func(a Version) bool { return a.Compare(cc) > 0 })
	native := slices.ContainsFunc(older, func(a Version) bool { return a.Major == cc.Major })
	switch {
	case len(older) == 0:
		return &Refusal{Reason: ReasonComputeCapability,
			Text:   fmt.Sprintf("its compute capability is %s, the program was compiled for %s", cc, list(c.need.Archs)),
			Remedy: fmt.Sprintf("build with CUDA_ARCHS=%d%d", cc.Major, cc.Minor)}
	case !native && c.report.Driver.CUDA.Compare(c.need.CUDA) < 0:
		r := tooOld(c.report.Driver, c.need.CUDA)
		r.Text += fmt.Sprintf(", since there is no machine code for compute capability %s", cc)
		r.Remedy = fmt.Sprintf("build with CUDA_ARCHS=%d%d, or install a newer driver", cc.Major, cc.Minor)
		return r
	}
	return nil
}

func list(versions []Version) string {
	texts := make([]string, len(versions))
	for i, v := range versions {
		texts[i] = v.String()
	}
	return strings.Join(texts, ", ")
}
