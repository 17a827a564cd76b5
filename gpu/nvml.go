//go:build linux && cgo

package gpu

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// nvmlSource asks NVML. A function that is not among those in needed is called only where the library has it.
type nvmlSource struct {
	api     nvml.Interface
	library string
	host    Host
	libcuda func() error
}

func (s *nvmlSource) cuda() error { return s.libcuda() }

func (s *nvmlSource) close() error {
	return s.fault("nvmlShutdown", s.api.Shutdown())
}

// initError says why nvmlInit failed.
func (s *nvmlSource) initError(ret nvml.Return) error {
	err := s.fault("nvmlInit", ret)
	if ret == nvml.ERROR_DRIVER_NOT_LOADED || ret == nvml.ERROR_LIBRARY_NOT_FOUND {
		return s.host.noModule(s.library, err)
	}
	return err
}

// remedies are for codes that a user can do something about.
var remedies = map[nvml.Return]string{
	nvml.ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated and its old kernel module still runs: restart the machine (a container: restart it after the host)",
	nvml.ERROR_GPU_IS_LOST:             "the GPU fell off the bus: see 'dmesg | grep -i xid', then restart the machine",
	nvml.ERROR_RESET_REQUIRED:          "reset the GPU: nvidia-smi --gpu-reset, or restart the machine",
	nvml.ERROR_INSUFFICIENT_POWER:      "the GPU's power cables are not all connected",
	nvml.ERROR_IRQ_ISSUE:               "the GPU gets no interrupts: see 'dmesg | grep -i nvrm'",
	nvml.ERROR_UNKNOWN:                 "see 'dmesg | grep -i nvrm'; a container that lost its GPUs has to be started again",
	nvml.ERROR_TIMEOUT:                 "the GPU does not answer: see 'dmesg | grep -i xid'",
}

// fault makes an error of a failed call; nil for success.
func (s *nvmlSource) fault(call string, ret nvml.Return) error {
	if ret == nvml.SUCCESS {
		return nil
	}
	err := &ErrNVML{Call: call, Code: int(ret), Text: ret.Error(), Remedy: remedies[ret]}
	if ret == nvml.ERROR_NO_PERMISSION {
		return s.host.permission("", err)
	}
	return err
}

// has reports whether the library has one of these functions.
func (s *nvmlSource) has(symbols ...string) bool {
	return hasAny(s.api.Extensions().LookupSymbol, symbols)
}

func (s *nvmlSource) driver() Driver {
	d := Driver{Library: s.library}
	if s.has("nvmlSystemGetDriverVersion") {
		if version, ret := s.api.SystemGetDriverVersion(); ret == nvml.SUCCESS {
			d.Version = version
		}
	}
	if s.has("nvmlSystemGetCudaDriverVersion") {
		if n, ret := s.api.SystemGetCudaDriverVersion(); ret == nvml.SUCCESS {
			d.CUDA = Version{n / 1000, n % 1000 / 10} // 12040 is 12.4
		}
	}
	return d
}

func (s *nvmlSource) devices() ([]Device, error) {
	n, ret := s.api.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, s.fault("nvmlDeviceGetCount", ret)
	}
	devices := make([]Device, n)
	for i := range devices {
		devices[i] = s.device(i)
	}
	return devices, nil
}

func (s *nvmlSource) device(index int) Device {
	d := Device{Index: index, Minor: -1, Utilization: -1, Processes: []Process{}}
	// What a kind of GPU does not support is left out; of other failures the first is kept, mostly it is that of all.
	failed := func(call string, ret nvml.Return) bool {
		if ret != nvml.SUCCESS && ret != nvml.ERROR_NOT_SUPPORTED && d.Err == nil {
			d.Err = s.fault(call, ret)
		}
		return ret != nvml.SUCCESS
	}
	h, ret := s.api.DeviceGetHandleByIndex(index)
	if ret != nvml.SUCCESS {
		d.Err = s.fault("nvmlDeviceGetHandleByIndex", ret)
		return d
	}
	d.Name, ret = h.GetName()
	failed("nvmlDeviceGetName", ret)
	d.UUID, ret = h.GetUUID()
	failed("nvmlDeviceGetUUID", ret)
	if major, minor, ret := h.GetCudaComputeCapability(); !failed("nvmlDeviceGetCudaComputeCapability", ret) {
		d.ComputeCapability = Version{major, minor}
	}
	d.Memory, ret = memory(h)
	failed("nvmlDeviceGetMemoryInfo", ret)
	s.placeOf(h, &d)
	s.stateOf(h, &d)
	d.MIG = s.mig(h)
	d.Processes = s.processes(h)
	return d
}

func memory(h nvml.Device) (Memory, nvml.Return) {
	m, ret := h.GetMemoryInfo()
	if ret != nvml.SUCCESS {
		return Memory{}, ret
	}
	return Memory{Total: m.Total, Free: m.Free, Used: m.Used}, ret
}

// placeOf fills in where the GPU is.
func (s *nvmlSource) placeOf(h nvml.Device, d *Device) {
	if s.has("nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo") {
		if pci, ret := h.GetPciInfo(); ret == nvml.SUCCESS {
			// The long form of the address came with v3; these fields were always there.
			d.PCIBusID = fmt.Sprintf("%08x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device)
		}
	}
	if s.has("nvmlDeviceGetMinorNumber") {
		if minor, ret := h.GetMinorNumber(); ret == nvml.SUCCESS {
			d.Minor = minor
		}
	}
}

// stateOf fills in who may use the GPU and how busy it is.
func (s *nvmlSource) stateOf(h nvml.Device, d *Device) {
	if s.has("nvmlDeviceGetComputeMode") {
		if mode, ret := h.GetComputeMode(); ret == nvml.SUCCESS {
			d.ComputeMode = map[nvml.ComputeMode]ComputeMode{
				nvml.COMPUTEMODE_DEFAULT:           ComputeDefault,
				nvml.COMPUTEMODE_EXCLUSIVE_THREAD:  ComputeExclusiveProcess, // of drivers before CUDA 8
				nvml.COMPUTEMODE_PROHIBITED:        ComputeProhibited,
				nvml.COMPUTEMODE_EXCLUSIVE_PROCESS: ComputeExclusiveProcess,
			}[mode]
		}
	}
	if s.has("nvmlDeviceGetUtilizationRates") {
		if rates, ret := h.GetUtilizationRates(); ret == nvml.SUCCESS {
			d.Utilization = int(rates.Gpu)
		}
	}
}

// mig is zero on a GPU, or with a driver, that cannot be divided.
func (s *nvmlSource) mig(h nvml.Device) MIG {
	if !s.has("nvmlDeviceGetMigMode") {
		return MIG{}
	}
	current, pending, ret := h.GetMigMode()
	if ret != nvml.SUCCESS {
		return MIG{}
	}
	m := MIG{Enabled: current == nvml.DEVICE_MIG_ENABLE, Pending: pending == nvml.DEVICE_MIG_ENABLE}
	if !m.Enabled || !s.has("nvmlDeviceGetMaxMigDeviceCount") || !s.has("nvmlDeviceGetMigDeviceHandleByIndex") {
		return m
	}
	most, ret := h.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return m
	}
	for i := range most {
		part, ret := h.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS { // places without an instance are NOT_FOUND
			continue
		}
		m.Instances = append(m.Instances, s.instance(part))
	}
	return m
}

func (s *nvmlSource) instance(h nvml.Device) MIGInstance {
	p := MIGInstance{GPUInstance: -1, ComputeInstance: -1}
	p.UUID, _ = h.GetUUID()
	p.Name, _ = h.GetName()
	p.Memory, _ = memory(h)
	if s.has("nvmlDeviceGetGpuInstanceId") {
		if id, ret := h.GetGpuInstanceId(); ret == nvml.SUCCESS {
			p.GPUInstance = id
		}
	}
	if s.has("nvmlDeviceGetComputeInstanceId") {
		if id, ret := h.GetComputeInstanceId(); ret == nvml.SUCCESS {
			p.ComputeInstance = id
		}
	}
	return p
}

// processes are those that compute and those that draw; one that does both is listed once.
func (s *nvmlSource) processes(h nvml.Device) []Process {
	var infos []nvml.ProcessInfo
	if s.has("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses") {
		if list, ret := h.GetComputeRunningProcesses(); ret == nvml.SUCCESS {
			infos = append(infos, list...)
		}
	}
	if s.has("nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses") {
		if list, ret := h.GetGraphicsRunningProcesses(); ret == nvml.SUCCESS {
			infos = append(infos, list...)
		}
	}
	names := s.has("nvmlSystemGetProcessName")
	processes := []Process{}
	seen := map[uint32]bool{}
	for _, info := range infos {
		if seen[info.Pid] {
			continue
		}
		seen[info.Pid] = true
		p := Process{PID: int(info.Pid)}
		if info.UsedGpuMemory != notAvailable {
			p.Memory = info.UsedGpuMemory
		}
		if names {
			if name, ret := s.api.SystemGetProcessName(p.PID); ret == nvml.SUCCESS {
				p.Name = name
			}
		}
		processes = append(processes, p)
	}
	return processes
}

// notAvailable is NVML_VALUE_NOT_AVAILABLE, -1 in an unsigned field.
const notAvailable = ^uint64(0)
