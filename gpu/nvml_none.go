//go:build !linux || !cgo

package gpu

func open(Host) (source, error) { return nil, ErrUnsupported }
