//go:build linux && cgo

package gpu_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/gpu/gputest"
)

// busy is a GPU with all that the driver can tell.
func busy() gpu.Device {
	d := gputest.H200()
	d.Utilization = 87
	d.ComputeMode = gpu.ComputeExclusiveProcess
	d.Memory = gpu.Memory{Total: 143771 << 20, Free: 3 << 30, Used: 143771<<20 - 3<<30}
	d.Processes = []gpu.Process{{PID: 4711, Name: "/usr/bin/python3", Memory: 130 << 30}, {PID: 4712}}
	return d
}

// divided is a GPU with two MIG instances.
func divided() gpu.Device {
	d := gputest.H200()
	d.UUID = "GPU-b0000000-52a5-4a58-9c3b-0d1f6f1c0a02"
	d.MIG = gpu.MIG{Enabled: true, Pending: true, Instances: []gpu.MIGInstance{
		{UUID: "MIG-11111111-0000-5000-8000-000000000001", Name: "NVIDIA H200 MIG 1g.18gb", GPUInstance: 7, ComputeInstance: 0,
			Memory: gpu.Memory{Total: 16 << 30, Free: 15 << 30, Used: 1 << 30}},
		{UUID: "MIG-22222222-0000-5000-8000-000000000002", Name: "NVIDIA H200 MIG 3g.71gb", GPUInstance: 2, ComputeInstance: 0,
			Memory: gpu.Memory{Total: 69 << 30, Free: 68 << 30, Used: 1 << 30}},
	}}
	return d
}

// shared is a GPU that has no memory of its own, as in a GB10.
func shared() gpu.Device {
	d := gputest.H200()
	d.Name, d.ComputeCapability, d.Memory, d.Utilization = "NVIDIA GB10", gpu.Version{Major: 12, Minor: 1}, gpu.Memory{}, -1
	return d
}

func TestDevices(t *testing.T) {
	tests := []struct {
		name string
		m    gputest.Machine
	}{
		{"no GPU", machine()},
		{"idle", machine(gputest.H200())},
		{"busy", machine(busy())},
		{"MIG", machine(divided())},
		{"no memory of its own", machine(shared())},
		{"two", machine(gputest.H200(), busy())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onMachine(t, tt.m, func(t *testing.T, _ *gputest.Fake) {
				l := open(t, gpu.Host{})
				driver, err := l.Driver()
				require.NoError(t, err)
				assert.Equal(t, gpu.Driver{Version: "550.54.15", CUDA: gpu.Version{Major: 12, Minor: 4}, Library: "libnvidia-ml.so.1"}, driver)
				devices, err := l.Devices()
				require.NoError(t, err)
				assert.Equal(t, len(tt.m.Devices), len(devices))
				for i := range devices {
					assert.Equal(t, tt.m.Devices[i], devices[i])
				}
			})
		})
	}
}

// optional are the functions that a driver may lack.
var optional = map[string]func(d *gpu.Device){ // what is unknown without it
	"nvmlDeviceGetMinorNumber":              func(d *gpu.Device) { d.Minor = -1 },
	"nvmlDeviceGetPciInfo_v3":               func(*gpu.Device) {},
	"nvmlDeviceGetComputeMode":              func(d *gpu.Device) { d.ComputeMode = "" },
	"nvmlDeviceGetUtilizationRates":         func(d *gpu.Device) { d.Utilization = -1 },
	"nvmlDeviceGetMigMode":                  func(d *gpu.Device) { d.MIG = gpu.MIG{} },
	"nvmlDeviceGetMaxMigDeviceCount":        func(d *gpu.Device) { d.MIG.Instances = nil },
	"nvmlDeviceGetMigDeviceHandleByIndex":   func(d *gpu.Device) { d.MIG.Instances = nil },
	"nvmlDeviceGetGpuInstanceId":            func(d *gpu.Device) { d.MIG.Instances[0].GPUInstance, d.MIG.Instances[1].GPUInstance = -1, -1 },
	"nvmlDeviceGetComputeInstanceId":        func(d *gpu.Device) { d.MIG.Instances[0].ComputeInstance, d.MIG.Instances[1].ComputeInstance = -1, -1 },
	"nvmlSystemGetProcessName":              func(d *gpu.Device) { d.Processes[0].Name = "" },
	"nvmlDeviceGetGraphicsRunningProcesses": func(*gpu.Device) {},
	"nvmlDeviceGetCount_v2":                 func(*gpu.Device) {},
	"nvmlDeviceGetHandleByIndex_v2":         func(*gpu.Device) {},
	"nvmlInit_v2":                           func(*gpu.Device) {},
}

// A function that the library lacks must not be called: the loader would end the process.
func TestOlderDrivers(t *testing.T) {
	full := func() gpu.Device {
		d := divided()
		d.Processes = busy().Processes
		return d
	}
	for missing, without := range optional {
		t.Run(missing, func(t *testing.T) {
			m := machine(full())
			m.Missing = []string{missing}
			onMachine(t, m, func(t *testing.T, _ *gputest.Fake) {
				devices, err := open(t, gpu.Host{}).Devices()
				require.NoError(t, err)
				want := machine(full()).Devices[0]
				without(&want)
				assert.Equal(t, []gpu.Device{want}, devices)
			})
		})
	}
	// What drivers of 2013 had: the first version of everything, no MIG, no version of CUDA.
	t.Run("first versions only", func(t *testing.T) {
		m := machine(busy())
		m.Missing = []string{
			"nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo_v3",
			"nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3",
			"nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses_v3",
			"nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex",
			"nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId", "nvmlSystemGetCudaDriverVersion",
		}
		onMachine(t, m, func(t *testing.T, _ *gputest.Fake) {
			l := open(t, gpu.Host{Root: root(), LookupEnv: env()})
			devices, err := l.Devices()
			require.NoError(t, err)
			assert.Equal(t, m.Devices, devices)
			_, err = l.Check(gpu.Requirements{CUDA: gpu.Version{Major: 12}})
			var old *gpu.ErrDriverTooOld
			require.ErrorAs(t, err, &old)
			assert.Equal(t, "550.54.15", old.Driver)
		})
	})
	t.Run("nothing of use", func(t *testing.T) {
		m := machine(busy())
		m.Missing = []string{"nvmlDeviceGetCudaComputeCapability"}
		onMachine(t, m, func(t *testing.T, _ *gputest.Fake) {
			_, err := gpu.Open()
			var old *gpu.ErrDriverTooOld
			require.ErrorAs(t, err, &old)
			assert.Equal(t, "nvmlDeviceGetCudaComputeCapability", old.Symbol)
			assert.ErrorContains(t, err, "too old, its library lacks nvmlDeviceGetCudaComputeCapability")
		})
	})
}

func TestOpenFails(t *testing.T) {
	tests := []struct {
		name  string
		code  int // of nvmlInit
		root  func() gpu.Host
		check func(t *testing.T, err error)
	}{
		{"driver not loaded", 9, func() gpu.Host { return gpu.Host{Root: root("sys/x"), LookupEnv: env()} }, func(t *testing.T, err error) {
			var none *gpu.ErrNoDriver
			require.ErrorAs(t, err, &none)
			assert.Equal(t, "libnvidia-ml.so.1", none.Library)
			assert.ErrorContains(t, err, "no NVIDIA GPU was found")
			var cause *gpu.ErrNVML
			require.ErrorAs(t, err, &cause)
			assert.Equal(t, 9, cause.Code)
		}},
		{"driver not loaded, in a container", 9, func() gpu.Host { return gpu.Host{Root: root(".dockerenv"), LookupEnv: env()} }, func(t *testing.T, err error) {
			assert.ErrorContains(t, err, "--gpus all")
		}},
		{"no permission", 4, func() gpu.Host { return gpu.Host{Root: root(), LookupEnv: env()} }, func(t *testing.T, err error) {
			var permission *gpu.ErrPermission
			require.ErrorAs(t, err, &permission)
			assert.ErrorContains(t, err, "usermod -aG video")
		}},
		{"library and module differ", 18, func() gpu.Host { return gpu.Host{} }, func(t *testing.T, err error) {
			var fault *gpu.ErrNVML
			require.ErrorAs(t, err, &fault)
			assert.Equal(t, "fake error 18", fault.Text)
			assert.ErrorContains(t, err, "restart the machine")
		}},
		{"unknown", 999, func() gpu.Host { return gpu.Host{} }, func(t *testing.T, err error) {
			assert.ErrorContains(t, err, "gpu: nvmlInit: fake error 999 (NVML code 999): see 'dmesg")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := machine(gputest.H200())
			m.Returns = map[string]int{"nvmlInit_v2": tt.code}
			onMachine(t, m, func(t *testing.T, fake *gputest.Fake) {
				_, err := tt.root().Open()
				tt.check(t, err)
				// The driver can come later in the life of a program.
				require.NoError(t, fake.Set(machine(gputest.H200())))
				devices, err := open(t, gpu.Host{}).Devices()
				require.NoError(t, err)
				assert.Len(t, devices, 1)
			})
		})
	}
}

func TestDevicesFail(t *testing.T) {
	t.Run("none are listed", func(t *testing.T) {
		m := machine(gputest.H200())
		m.Returns = map[string]int{"nvmlDeviceGetCount_v2": 999}
		onMachine(t, m, func(t *testing.T, _ *gputest.Fake) {
			l := open(t, gpu.Host{})
			_, err := l.Devices()
			var fault *gpu.ErrNVML
			require.ErrorAs(t, err, &fault)
			assert.Equal(t, "nvmlDeviceGetCount", fault.Call)
			_, err = l.Check(gpu.Requirements{})
			assert.ErrorAs(t, err, &fault)
		})
	})
	t.Run("one is lost", func(t *testing.T) {
		lost := gputest.H200()
		lost.Err = &gpu.ErrNVML{Call: "nvmlDeviceGetMemoryInfo", Code: 15}
		onMachine(t, machine(lost, gputest.H200()), func(t *testing.T, _ *gputest.Fake) {
			devices, err := open(t, gpu.Host{}).Devices()
			require.NoError(t, err)
			require.Len(t, devices, 2)
			var fault *gpu.ErrNVML
			require.ErrorAs(t, devices[0].Err, &fault)
			assert.Equal(t, 15, fault.Code)
			assert.Equal(t, "NVIDIA H200", devices[0].Name)
			assert.NoError(t, devices[1].Err)
		})
	})
}

func TestWatch(t *testing.T) {
	onMachine(t, machine(gputest.H200()), func(t *testing.T, fake *gputest.Fake) {
		l := open(t, gpu.Host{})
		used := func(n uint64) gputest.Machine {
			d := gputest.H200()
			d.Memory.Used = n
			return machine(d)
		}
		// Each answer is that of its time.
		seen := uint64(1 << 20)
		require.NoError(t, fake.Set(used(seen)))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for devices, err := range l.Watch(ctx, time.Millisecond) {
			if last = err; err != nil {
				continue
			}
			require.Equal(t, seen, devices[0].Memory.Used)
			if seen++; seen == 1<<20+5 {
				cancel()
			}
			require.NoError(t, fake.Set(used(seen)))
		}
		require.ErrorIs(t, last, context.Canceled)
		assert.Equal(t, uint64(1<<20+5), seen)

		for range l.Watch(t.Context(), time.Hour) {
			break
		}
		last = nil
		for devices, err := range l.Watch(t.Context(), time.Millisecond) {
			last = err
			if devices != nil {
				require.NoError(t, l.Close())
			}
		}
		assert.ErrorIs(t, last, gpu.ErrClosed)
	})
}

func TestClose(t *testing.T) {
	onMachine(t, machine(gputest.H200()), func(t *testing.T, _ *gputest.Fake) {
		l := open(t, gpu.Host{})
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		require.NoError(t, (*gpu.Library)(nil).Close())
		_, err := l.Devices()
		assert.ErrorIs(t, err, gpu.ErrClosed)
		_, err = l.Driver()
		assert.ErrorIs(t, err, gpu.ErrClosed)
		_, err = l.Check(gpu.Requirements{})
		assert.ErrorIs(t, err, gpu.ErrClosed)

		// Libraries open, ask and close side by side; the race detector looks on.
		var users sync.WaitGroup
		for range 8 {
			users.Go(func() {
				for range 10 {
					l, err := gpu.Open()
					if !assert.NoError(t, err) {
						return
					}
					devices, err := l.Devices()
					assert.NoError(t, err)
					assert.Len(t, devices, 1)
					assert.NoError(t, l.Close())
				}
			})
		}
		users.Wait()
		l = open(t, gpu.Host{})
		for range 8 {
			users.Go(func() {
				for {
					if _, err := l.Devices(); err != nil {
						assert.ErrorIs(t, err, gpu.ErrClosed)
						return
					}
				}
			})
		}
		require.NoError(t, l.Close())
		users.Wait()
	})
}

func TestCheck(t *testing.T) {
	h200 := gputest.H200
	with := func(d gpu.Device, change func(*gpu.Device)) gpu.Device {
		change(&d)
		return d
	}
	second := with(h200(), func(d *gpu.Device) { d.UUID = "GPU-b0000000-52a5-4a58-9c3b-0d1f6f1c0a02" })
	twelve := gpu.Version{Major: 12, Minor: 9}
	hopper, blackwell, ampere := gpu.Version{Major: 9}, gpu.Version{Major: 10}, gpu.Version{Major: 8}
	ok := gpu.Host{Root: root(), LookupEnv: env()}
	set := func(variables ...string) gpu.Host { return gpu.Host{Root: root(), LookupEnv: env(variables...)} }
	less := func(name string, h gpu.Host) gpu.Host {
		r := root()
		delete(r, name)
		return gpu.Host{Root: r, LookupEnv: h.LookupEnv}
	}
	tests := []struct {
		name   string
		m      gputest.Machine
		host   gpu.Host
		need   gpu.Requirements
		usable []int
		reason gpu.Reason // empty where the requirements are met
		text   string     // part of the error, or of the first refusal
	}{
		{"anything", machine(h200()), ok, gpu.Requirements{}, []int{0}, "", ""},
		{"all that it has", machine(h200()), ok, gpu.Requirements{CUDA: twelve, Archs: []gpu.Version{ampere, hopper}, FreeMemory: 100 << 30}, []int{0}, "", ""},
		{"no GPU", machine(), ok, gpu.Requirements{}, []int{}, gpu.ReasonNoDevice, "lists no GPU: see that lspci"},
		{"no GPU in a container", machine(), set("container=podman"), gpu.Requirements{}, []int{}, gpu.ReasonNoDevice, "--gpus all"},
		{"driver too old", machine(h200()), ok, gpu.Requirements{CUDA: gpu.Version{Major: 13}}, []int{}, gpu.ReasonDriverTooOld, "550.54.15 is too old, it runs CUDA 12.4 and CUDA 13.0 is needed: install driver 580 or newer"},
		{"CUDA unheard of", machine(h200()), ok, gpu.Requirements{CUDA: gpu.Version{Major: 99}}, []int{}, gpu.ReasonDriverTooOld, "install a newer driver"},
		{"older than all code", machine(h200()), ok, gpu.Requirements{Archs: []gpu.Version{blackwell}}, []int{}, gpu.ReasonComputeCapability, "compute capability is 9.0, the program was compiled for 10.0: build with CUDA_ARCHS=90"},
		{"code to compile, driver too old for it", machine(h200()), ok, gpu.Requirements{CUDA: twelve, Archs: []gpu.Version{ampere}}, []int{}, gpu.ReasonDriverTooOld, "no machine code for compute capability 9.0: build with CUDA_ARCHS=90"},
		{"code to compile", machine(h200()), ok, gpu.Requirements{CUDA: gpu.Version{Major: 12, Minor: 4}, Archs: []gpu.Version{ampere}}, []int{0}, "", ""},
		{"memory", machine(busy()), set(), gpu.Requirements{}, []int{}, gpu.ReasonComputeMode, "exclusive_process; held by python3 (process 4711) with 130.0 GiB, process 4712: end that"},
		{"memory of one", machine(with(busy(), func(d *gpu.Device) { d.ComputeMode = gpu.ComputeDefault })), ok, gpu.Requirements{FreeMemory: 8 << 30}, []int{0}, gpu.ReasonMemory, "GPU 0 (NVIDIA H200): 8.0 GiB of GPU memory are needed and 3.0 GiB are free; held by python3 (process 4711) with 130.0 GiB"},
		{"memory of two", machine(h200(), second), ok, gpu.Requirements{FreeMemory: 200 << 30}, []int{0, 1}, "", ""},
		{"more than two have", machine(h200(), second), ok, gpu.Requirements{FreeMemory: 300 << 30}, []int{0, 1}, gpu.ReasonMemory, "300.0 GiB of GPU memory are needed and 279.8 GiB are free"},
		{"memory unknown", machine(shared()), ok, gpu.Requirements{FreeMemory: 8 << 30}, []int{0}, "", ""},
		{"two wanted", machine(h200()), ok, gpu.Requirements{Devices: 2}, []int{0}, gpu.ReasonNoDevice, "1 of the 2 GPUs"},
		{"one of two is too old", machine(h200(), with(second, func(d *gpu.Device) { d.ComputeCapability = ampere })), ok, gpu.Requirements{Archs: []gpu.Version{hopper}}, []int{0}, "", "GPU 1 (NVIDIA H200): its compute capability is 8.0"},
		{"prohibited", machine(with(h200(), func(d *gpu.Device) { d.ComputeMode = gpu.ComputeProhibited })), ok, gpu.Requirements{}, []int{}, gpu.ReasonComputeMode, "prohibited: sudo nvidia-smi -i 0 -c DEFAULT"},
		{"lost", machine(with(h200(), func(d *gpu.Device) { d.Err = &gpu.ErrNVML{Call: "nvmlDeviceGetName", Code: 15} })), ok, gpu.Requirements{}, []int{}, gpu.ReasonNoAnswer, "nvmlDeviceGetName: fake error 15 (NVML code 15): the GPU fell off the bus"},
		{"not for this user", machine(with(h200(), func(d *gpu.Device) { d.Err = &gpu.ErrNVML{Call: "nvmlDeviceGetHandleByIndex_v2", Code: 4} })), ok, gpu.Requirements{}, []int{}, gpu.ReasonPermission, "GPU 0: the NVIDIA driver refuses this user"},
		{"MIG without an instance", machine(with(h200(), func(d *gpu.Device) { d.MIG.Enabled = true })), ok, gpu.Requirements{}, []int{}, gpu.ReasonMIG, "no instance was made: make one (sudo nvidia-smi mig -i 0"},
		{"MIG, the first instance", machine(divided()), ok, gpu.Requirements{FreeMemory: 14 << 30}, []int{0}, "", ""},
		{"MIG, too little", machine(divided()), ok, gpu.Requirements{FreeMemory: 16 << 30}, []int{0}, gpu.ReasonMemory, "15.0 GiB are free"},
		{"MIG, the larger instance", machine(divided()), set("CUDA_VISIBLE_DEVICES=MIG-2"), gpu.Requirements{FreeMemory: 60 << 30}, []int{0}, "", ""},
		{"two hidden", machine(h200(), second), set("CUDA_VISIBLE_DEVICES=-1"), gpu.Requirements{}, []int{}, gpu.ReasonHidden, `name GPU-b0000000`},
		{"two for two reasons", machine(with(h200(), func(d *gpu.Device) { d.ComputeMode = gpu.ComputeProhibited }), with(second, func(d *gpu.Device) { d.ComputeCapability = ampere })), ok, gpu.Requirements{Archs: []gpu.Version{hopper}}, []int{}, gpu.ReasonComputeMode, "GPU 0 (NVIDIA H200): its compute mode is prohibited: sudo nvidia-smi -i 0 -c DEFAULT; GPU 1 (NVIDIA H200): its compute"},
		{"two without a node", machine(h200(), second), less("dev/nvidia-uvm", ok), gpu.Requirements{}, []int{}, gpu.ReasonDeviceNode, "gpu: GPUs 0, 1: no /dev/nvidia-uvm: install nvidia-modprobe"},
		{"hidden", machine(h200()), set("CUDA_VISIBLE_DEVICES="), gpu.Requirements{}, []int{}, gpu.ReasonHidden, `hidden by CUDA_VISIBLE_DEVICES="": unset it, or name GPU-6d2f`},
		{"one of two is hidden", machine(h200(), second), set("CUDA_VISIBLE_DEVICES=1"), gpu.Requirements{}, []int{1}, "", "GPU 0 (NVIDIA H200): hidden"},
		{"no node", machine(h200()), less("dev/nvidia-uvm", ok), gpu.Requirements{}, []int{}, gpu.ReasonDeviceNode, "no /dev/nvidia-uvm: install nvidia-modprobe"},
		{"no node, but the program that makes it", machine(h200()), gpu.Host{Root: func() fstest.MapFS { r := root("usr/bin/nvidia-modprobe"); delete(r, "dev/nvidia-uvm"); return r }(), LookupEnv: env()}, gpu.Requirements{}, []int{0}, "", ""},
		{"no node in a container", machine(h200()), less("dev/nvidia0", set("container=podman")), gpu.Requirements{}, []int{}, gpu.ReasonDeviceNode, "no /dev/nvidia0 in this container: start the container with its GPUs"},
		{"node forbidden", machine(h200()), gpu.Host{Root: forbidding{root(), "dev/nvidia0"}, LookupEnv: env()}, gpu.Requirements{}, []int{}, gpu.ReasonPermission, "no permission to open /dev/nvidia0: let this user open it"},
		{"WSL", machine(h200()), gpu.Host{Root: fstest.MapFS{"dev/dxg": {}}, LookupEnv: env()}, gpu.Requirements{}, []int{0}, "", ""},
		{"no libcuda", noCUDA(machine(h200())), ok, gpu.Requirements{}, []int{}, gpu.ReasonNoCUDALibrary, "libcuda.so.1 cannot be loaded"},
		{"no libcuda in a container", noCUDA(machine(h200())), set("container=x"), gpu.Requirements{}, []int{}, gpu.ReasonNoCUDALibrary, "NVIDIA_DRIVER_CAPABILITIES=compute,utility"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onMachine(t, tt.m, func(t *testing.T, _ *gputest.Fake) {
				l := open(t, tt.host)
				report, err := l.Check(tt.need)
				assert.Equal(t, tt.usable, report.Usable)
				assert.Len(t, report.Devices, len(tt.m.Devices))
				if tt.reason == "" {
					require.NoError(t, err)
					if tt.text != "" {
						require.Len(t, report.Refusals, 1)
						assert.ErrorContains(t, report.Refusals[0], tt.text)
					}
					return
				}
				var refused *gpu.ErrRefused
				require.ErrorAs(t, err, &refused)
				var refusal *gpu.Refusal
				require.ErrorAs(t, err, &refusal)
				assert.Equal(t, tt.reason, refusal.Reason)
				assert.ErrorContains(t, err, tt.text)
				assert.NotContains(t, err.Error(), "\n")
				assert.Equal(t, 1, strings.Count(err.Error(), "gpu: "), err)
				assert.NotEmpty(t, refusal.Remedy)
				assert.Contains(t, report.Refusals, refusal)
				if tt.reason == gpu.ReasonPermission {
					var permission *gpu.ErrPermission
					assert.True(t, errors.As(err, &permission))
				}
			})
		})
	}
}

func noCUDA(m gputest.Machine) gputest.Machine {
	m.NoCUDA = true
	return m
}
