package gpu

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

const (
	libraryName     = "libnvidia-ml.so.1"
	cudaLibraryName = "libcuda.so.1"
)

// Host is the machine as it can be seen without the driver's library. The zero value is the one that this program runs
// on. Programs that see a machine's files elsewhere, such as below /host in a container, and tests name another.
type Host struct {
	Root      fs.FS                       // nil = os.DirFS("/")
	LookupEnv func(string) (string, bool) // nil = os.LookupEnv
}

func (h Host) complete() Host {
	if h.Root == nil {
		h.Root = os.DirFS("/")
	}
	if h.LookupEnv == nil {
		h.LookupEnv = os.LookupEnv
	}
	return h
}

func (h Host) exists(name string) bool {
	_, err := fs.Stat(h.Root, name)
	return err == nil
}

// hasModule reports whether NVIDIA's kernel module runs. It is the host's own in a container too.
func (h Host) hasModule() bool { return h.exists("proc/driver/nvidia/version") }

// HasGPU reports whether an NVIDIA GPU, or the kernel module of its driver, is here, usable or not. It asks no library.
func (h Host) HasGPU() bool {
	h = h.complete()
	found, _ := h.card()
	return found || h.hasModule() || h.inWSL() && h.exists("dev/dxg")
}

// hasNodes reports whether the devices of the driver are here.
func (h Host) hasNodes() bool { return h.exists("dev/nvidiactl") || h.exists("dev/dxg") }

func (h Host) inContainer() bool {
	for _, name := range []string{"container", "KUBERNETES_SERVICE_HOST"} {
		if value, _ := h.LookupEnv(name); value != "" {
			return true
		}
	}
	return h.exists(".dockerenv") || h.exists("run/.containerenv")
}

// inWSL reports whether this is Linux inside Windows, whose driver is that of Windows.
func (h Host) inWSL() bool {
	release, _ := fs.ReadFile(h.Root, "proc/sys/kernel/osrelease")
	return strings.Contains(strings.ToLower(string(release)), "microsoft")
}

// card looks for a GPU of NVIDIA on the PCI bus, which no driver is needed for, and tells which kernel driver has it.
func (h Host) card() (found bool, driver string) {
	const bus = "sys/bus/pci/devices"
	devices, err := fs.ReadDir(h.Root, bus)
	if err != nil {
		return false, ""
	}
	for _, d := range devices {
		dir := path.Join(bus, d.Name())
		vendor, _ := fs.ReadFile(h.Root, dir+"/vendor")
		class, _ := fs.ReadFile(h.Root, dir+"/class")
		// 0x03: display controllers, those without a display too
		if strings.TrimSpace(string(vendor)) != "0x10de" || !strings.HasPrefix(string(class), "0x03") {
			continue
		}
		found = true
		if target, err := fs.ReadLink(h.Root, dir+"/driver"); err == nil {
			return true, path.Base(target)
		}
	}
	return found, ""
}

const (
	remedyContainer = "start the container with its GPUs (docker run --gpus all; this takes the NVIDIA Container Toolkit on the host)"
	remedyInstall   = "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install) and restart the machine"
)

// isMissing reports whether the loader's error is that there is no such library; one that it needs may be missing too.
func isMissing(err error) bool {
	return err == nil || strings.Contains(err.Error(), libraryName) && strings.Contains(err.Error(), "No such file or directory")
}

// noLibrary says what it means that the loader could not open the library.
func (h Host) noLibrary(library string, cause error) *ErrNoDriver {
	found, driver := h.card()
	e := &ErrNoDriver{Library: library, Cause: cause, HasGPU: h.HasGPU()}
	missing := "no " + library + " (the library of the NVIDIA driver)"
	switch {
	case !isMissing(cause):
		e.Problem, e.Remedy = "the library of the NVIDIA driver cannot be loaded ("+cause.Error()+")", "install the driver's packages again"
	case h.inWSL():
		e.Problem, e.Remedy = missing+" in WSL", "install NVIDIA's driver in Windows, none in Linux, then run 'wsl --update' and 'wsl --shutdown' there"
	case h.hasModule() && h.inContainer() && !h.hasNodes():
		e.Problem, e.Remedy = missing+" and no /dev/nvidiactl in this container, although the host has the driver", remedyContainer
	case h.hasModule() && h.inContainer():
		e.Problem, e.Remedy = missing+" in this container, although the GPUs are", "set NVIDIA_DRIVER_CAPABILITIES=compute,utility and "+remedyContainer
	case h.hasModule():
		e.Problem, e.Remedy = missing+", although the driver's kernel module runs", "install the driver's libraries of the same version (Ubuntu: libnvidia-compute-VERSION), then run ldconfig"
	case found && driver == "vfio-pci":
		e.Problem, e.Remedy = missing+"; the NVIDIA GPU is set aside for a virtual machine (vfio-pci)", "use it there, or unbind it from vfio-pci"
	case found && driver == "nouveau":
		e.Problem, e.Remedy = missing+"; the NVIDIA GPU runs on the driver nouveau, which has no CUDA", remedyInstall
	case found:
		e.Problem, e.Remedy = missing+", although an NVIDIA GPU is here", remedyInstall
	default:
		e.Problem, e.Remedy = missing+", and no NVIDIA GPU was found", "nothing to do without one; with one, "+remedyInstall
	}
	return e
}

// noModule says why the library found no driver behind it.
func (h Host) noModule(library string, cause error) *ErrNoDriver {
	found, driver := h.card()
	e := &ErrNoDriver{Library: library, Cause: cause, HasGPU: h.HasGPU()}
	switch {
	case h.inContainer():
		e.Problem, e.Remedy = "the library of the NVIDIA driver is here, its devices are not in this container", remedyContainer
	case h.hasModule() && !h.hasNodes():
		e.Problem, e.Remedy = "the NVIDIA driver runs, but /dev/nvidiactl is missing", "run sudo nvidia-modprobe -u -c 0"
	case !found:
		e.Problem, e.Remedy = "the NVIDIA driver is installed, but no NVIDIA GPU was found", "see that lspci lists it; in a virtual machine, pass it through"
	case driver != "" && driver != "nvidia":
		e.Problem, e.Remedy = "the NVIDIA driver is installed, but the GPU runs on "+driver, "restart the machine; if it stays so, blacklist "+driver
	default:
		e.Problem, e.Remedy = "the NVIDIA driver is installed, but its kernel module does not run", "run sudo modprobe nvidia; where it is refused, enrol its key for Secure Boot or install the headers of this kernel ('dkms status')"
	}
	return e
}

func (h Host) permission(node string, cause error) *ErrPermission {
	remedy := "let this user open it: sudo usermod -aG video $USER (see the group of 'ls -l /dev/nvidia*'), then log in again"
	if h.inContainer() {
		remedy = remedyContainer
	}
	return &ErrPermission{Path: node, Remedy: remedy, Cause: cause}
}

// nodes finds the first device node that CUDA needs for the GPU with this minor number and cannot open.
func (h Host) nodes(minor int) *Refusal {
	if h.exists("dev/dxg") || h.exists("dev/nvhost-ctrl") { // WSL and Jetson have other nodes
		return nil
	}
	names := []string{"nvidiactl", "nvidia-uvm"}
	if minor >= 0 {
		names = append(names, "nvidia"+strconv.Itoa(minor))
	}
	for _, name := range names {
		f, err := h.Root.Open("dev/" + name)
		switch {
		case err == nil:
			_ = f.Close()
		case errors.Is(err, fs.ErrPermission):
			cause := h.permission("/dev/"+name, err)
			text, remedy := cause.explain()
			return &Refusal{Reason: ReasonPermission, Text: text, Remedy: remedy, Cause: cause}
		case errors.Is(err, fs.ErrNotExist) && h.inContainer():
			return &Refusal{Reason: ReasonDeviceNode, Text: "no /dev/" + name + " in this container", Remedy: remedyContainer}
		case errors.Is(err, fs.ErrNotExist) && !h.exists("usr/bin/nvidia-modprobe"): // which CUDA itself calls
			return &Refusal{Reason: ReasonDeviceNode, Text: "no /dev/" + name, Remedy: "install nvidia-modprobe, which makes it"}
		}
	}
	return nil
}
