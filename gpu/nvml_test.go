//go:build linux && cgo

package gpu

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dgx is NVIDIA's own model of a DGX A100, with what it leaves out of the calls that are made.
func dgx() *dgxa100.Server {
	s := dgxa100.New()
	s.SystemGetProcessNameFunc = func(pid int) (string, nvml.Return) {
		return map[int]string{100: "/usr/bin/python3"}[pid], nvml.SUCCESS
	}
	for i := range s.Devices {
		d := s.Devices[i].(*dgxa100.Device)
		d.MemoryInfo = nvml.Memory{Total: 40 << 30, Free: 39 << 30, Used: 1 << 30}
		d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_DEFAULT, nvml.SUCCESS }
		d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 50}, nvml.SUCCESS }
		d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.SUCCESS }
		d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.ERROR_NOT_SUPPORTED }
		d.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	}
	return s
}

func device(s *dgxa100.Server, i int) *dgxa100.Device { return s.Devices[i].(*dgxa100.Device) }

func TestMockDevices(t *testing.T) {
	s := dgx()
	src := &nvmlSource{api: s, library: "mock"}
	s.DriverVersion, s.CudaDriverVersion = "550.54.15", 12040
	assert.Equal(t, Driver{Version: "550.54.15", CUDA: Version{12, 4}, Library: "mock"}, src.driver())
	devices, err := src.devices()
	require.NoError(t, err)
	require.Len(t, devices, 8)
	for i, d := range devices {
		want := device(s, i)
		assert.Equal(t, Device{Index: i, UUID: want.UUID, Name: want.Name, PCIBusID: "00000000:00:00.0", Minor: i, ComputeCapability: Version{8, 0},
			ComputeMode: ComputeDefault, Memory: Memory{Total: 40 << 30, Free: 39 << 30, Used: 1 << 30}, Utilization: 50, Processes: []Process{}}, d)
	}
}

func TestMockDevice(t *testing.T) {
	none := func() Device {
		return Device{Index: 1, Minor: -1, Utilization: -1, Processes: []Process{}}
	}
	tests := []struct {
		name   string
		change func(s *dgxa100.Server, d *dgxa100.Device)
		check  func(t *testing.T, d Device)
	}{
		{"no handle", func(s *dgxa100.Server, _ *dgxa100.Device) {
			s.DeviceGetHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_GPU_IS_LOST }
		}, func(t *testing.T, d Device) {
			var fault *ErrNVML
			require.ErrorAs(t, d.Err, &fault)
			assert.Equal(t, "nvmlDeviceGetHandleByIndex", fault.Call)
			assert.Equal(t, int(nvml.ERROR_GPU_IS_LOST), fault.Code)
			d.Err = nil
			assert.Equal(t, none(), d)
		}},
		{"no permission", func(s *dgxa100.Server, _ *dgxa100.Device) {
			s.DeviceGetHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_NO_PERMISSION }
		}, func(t *testing.T, d Device) {
			var permission *ErrPermission
			assert.ErrorAs(t, d.Err, &permission)
		}},
		{"the first failure is kept", func(_ *dgxa100.Server, d *dgxa100.Device) {
			d.GetUUIDFunc = func() (string, nvml.Return) { return "", nvml.ERROR_UNKNOWN }
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 1}, nvml.ERROR_TIMEOUT }
		}, func(t *testing.T, d Device) {
			var fault *ErrNVML
			require.ErrorAs(t, d.Err, &fault)
			assert.Equal(t, "nvmlDeviceGetUUID", fault.Call)
			assert.Zero(t, d.Memory)
		}},
		{"unsupported is no failure", func(_ *dgxa100.Server, d *dgxa100.Device) {
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_NOT_SUPPORTED }
			d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
			d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED }
			d.GetMinorNumberFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
			d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) { return nvml.PciInfo{}, nvml.ERROR_NOT_SUPPORTED }
			d.GetMigModeFunc = func() (int, int, nvml.Return) { return 1, 1, nvml.ERROR_NOT_SUPPORTED }
			d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, nvml.ERROR_NOT_SUPPORTED }
		}, func(t *testing.T, d Device) {
			require.NoError(t, d.Err)
			want := none()
			want.Name, want.UUID, want.ComputeCapability = d.Name, d.UUID, Version{8, 0}
			assert.Equal(t, want, d)
		}},
		{"processes", func(_ *dgxa100.Server, d *dgxa100.Device) {
			d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
				return []nvml.ProcessInfo{{Pid: 100, UsedGpuMemory: 7}, {Pid: 101, UsedGpuMemory: notAvailable}}, nvml.SUCCESS
			}
			d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
				return []nvml.ProcessInfo{{Pid: 102, UsedGpuMemory: 9}, {Pid: 100, UsedGpuMemory: 7}}, nvml.SUCCESS
			}
		}, func(t *testing.T, d Device) {
			assert.Equal(t, []Process{{PID: 100, Name: "/usr/bin/python3", Memory: 7}, {PID: 101}, {PID: 102, Memory: 9}}, d.Processes)
		}},
		{"compute modes", func(_ *dgxa100.Server, d *dgxa100.Device) {
			d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_EXCLUSIVE_THREAD, nvml.SUCCESS }
		}, func(t *testing.T, d Device) { assert.Equal(t, ComputeExclusiveProcess, d.ComputeMode) }},
		{"MIG is off and will be on", func(_ *dgxa100.Server, d *dgxa100.Device) {
			d.GetMigModeFunc = func() (int, int, nvml.Return) {
				return nvml.DEVICE_MIG_DISABLE, nvml.DEVICE_MIG_ENABLE, nvml.SUCCESS
			}
		}, func(t *testing.T, d Device) { assert.Equal(t, MIG{Pending: true}, d.MIG) }},
		{"MIG instances, one of them shy", func(_ *dgxa100.Server, d *dgxa100.Device) {
			d.MigMode = nvml.DEVICE_MIG_ENABLE
			d.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
				if i == 0 || i > 2 {
					return nil, nvml.ERROR_NOT_FOUND
				}
				part := &mock.Device{
					GetUUIDFunc:              func() (string, nvml.Return) { return "MIG-1", nvml.SUCCESS },
					GetNameFunc:              func() (string, nvml.Return) { return "1g", nvml.SUCCESS },
					GetMemoryInfoFunc:        func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 5, Free: 4, Used: 1}, nvml.SUCCESS },
					GetGpuInstanceIdFunc:     func() (int, nvml.Return) { return 3, nvml.SUCCESS },
					GetComputeInstanceIdFunc: func() (int, nvml.Return) { return 4, nvml.SUCCESS },
				}
				if i == 2 {
					part.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 1}, nvml.ERROR_UNKNOWN }
					part.GetGpuInstanceIdFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
					part.GetComputeInstanceIdFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
				}
				return part, nvml.SUCCESS
			}
		}, func(t *testing.T, d Device) {
			assert.Equal(t, MIG{Enabled: true, Pending: true, Instances: []MIGInstance{
				{UUID: "MIG-1", Name: "1g", GPUInstance: 3, ComputeInstance: 4, Memory: Memory{Total: 5, Free: 4, Used: 1}},
				{UUID: "MIG-1", Name: "1g", GPUInstance: -1, ComputeInstance: -1},
			}}, d.MIG)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := dgx()
			tt.change(s, device(s, 1))
			src := &nvmlSource{api: s, host: Host{}.complete()}
			tt.check(t, src.device(1))
		})
	}
}

// No function is called that the library was not asked for; the mock panics at functions that it has not.
func TestMockSymbolsFirst(t *testing.T) {
	s := dgxa100.New()
	s.LookupSymbolFunc = func(string) error { return errors.New("no such symbol") }
	src := &nvmlSource{api: s}
	assert.Equal(t, Driver{}, src.driver())
	devices, err := src.devices()
	require.NoError(t, err)
	assert.Len(t, devices, 8)
	assert.Equal(t, device(s, 7).UUID, devices[7].UUID)
}

func TestMockFaults(t *testing.T) {
	s := dgx()
	src := &nvmlSource{api: s, host: Host{}.complete()}
	s.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	_, err := src.devices()
	var fault *ErrNVML
	require.ErrorAs(t, err, &fault)
	assert.Equal(t, "ERROR_UNKNOWN", fault.Text)
	s.ShutdownFunc = func() nvml.Return { return nvml.ERROR_UNINITIALIZED }
	assert.ErrorAs(t, src.close(), &fault)
}

func TestLibraryThatCannotBeLoaded(t *testing.T) {
	dir := t.TempDir()
	missing, broken, foreign := filepath.Join(dir, libraryName), filepath.Join(dir, "broken.so"), "libdl.so.2"
	require.NoError(t, os.WriteFile(broken, []byte("no ELF file, but a text that is long enough for its header to be read"), 0o644))
	h := Host{}.complete()
	var none *ErrNoDriver

	_, err := load(h, []string{missing})
	require.ErrorAs(t, err, &none)
	assert.Equal(t, libraryName, none.Library)
	assert.ErrorContains(t, err, "gpu: no libnvidia-ml.so.1 (the library of the NVIDIA driver)")
	assert.ErrorContains(t, none.Cause, "No such file")

	_, err = load(h, []string{missing, broken, missing})
	require.ErrorAs(t, err, &none)
	assert.ErrorContains(t, err, "invalid ELF header")
	assert.ErrorContains(t, err, "install the driver's packages again")

	// It is there, and a library that it needs is not.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.c"), nil, 0o644))
	for _, args := range [][]string{{"-Wl,-soname,libneeded.so.9", "-o", filepath.Join(dir, "libneeded.so")},
		{"-Wl,--no-as-needed", "-o", filepath.Join(dir, "needy.so"), "-L" + dir, "-lneeded"}} {
		out, err := exec.Command("cc", append([]string{"-shared", filepath.Join(dir, "x.c")}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	_, err = load(h, []string{missing, filepath.Join(dir, "needy.so")})
	assert.ErrorContains(t, err, "cannot be loaded (libneeded.so.9: cannot open shared object file")

	// A library of another kind is not called.
	_, err = load(h, []string{foreign})
	var old *ErrDriverTooOld
	require.ErrorAs(t, err, &old)
	assert.Equal(t, "nvmlInit_v2", old.Symbol)
}
