package gpu

import (
	"slices"
	"strconv"
	"strings"
)

// visibility is what CUDA_VISIBLE_DEVICES leaves of the devices.
type visibility struct {
	value string
	all   bool
	parts map[int]int // Device.Index -> place of the MIG instance
}

func (v visibility) has(device int) bool {
	_, ok := v.parts[device]
	return ok || v.all
}

// instance is the place of the MIG instance that CUDA would take of this device.
func (v visibility) instance(device int) int { return v.parts[device] }

// visible reads CUDA_VISIBLE_DEVICES as CUDA does: numbers or unique beginnings of UUIDs, up to the first that names
// no device. CUDA counts from the fastest GPU unless CUDA_DEVICE_ORDER is PCI_BUS_ID: where the GPUs are of several
// kinds its numbers cannot be known, and all of them pass for visible if any number is given.
//
// Source: CUDA C++ Programming Guide, "CUDA Environment Variables"
func visible(getenv func(string) (string, bool), devices []Device) visibility {
	value, set := getenv("CUDA_VISIBLE_DEVICES")
	v := visibility{value: value, all: !set, parts: map[int]int{}}
	if !set {
		return v
	}
	order, _ := getenv("CUDA_DEVICE_ORDER")
	known := order == "PCI_BUS_ID" || !slices.ContainsFunc(devices, func(d Device) bool { return d.Name != devices[0].Name })
	for _, entry := range strings.Split(value, ",") {
		entry = strings.TrimSpace(entry)
		device, part, ok := named(entry, devices)
		if !ok {
			break
		}
		if _, twice := v.parts[device]; twice && !strings.HasPrefix(entry, "MIG-") {
			return visibility{value: value} // CUDA refuses the whole list
		}
		if isNumber(entry) && !known {
			v.all = true
		}
		if _, twice := v.parts[device]; !twice {
			v.parts[device] = part
		}
	}
	return v
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// named finds the device, and the place of its MIG instance, that an entry names.
func named(entry string, devices []Device) (device, part int, ok bool) {
	if n, err := strconv.ParseUint(entry, 10, 16); err == nil {
		if int(n) < len(devices) {
			return devices[n].Index, 0, true
		}
		return 0, 0, false
	}
	found := 0
	for _, d := range devices {
		if strings.HasPrefix(entry, "GPU-") && strings.HasPrefix(d.UUID, entry) {
			device, part, found = d.Index, 0, found+1
		}
		for i, p := range d.MIG.Instances {
			if strings.HasPrefix(entry, "MIG-") && strings.HasPrefix(p.UUID, entry) {
				device, part, found = d.Index, i, found+1
			}
		}
	}
	return device, part, found == 1
}
