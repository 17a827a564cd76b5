// Package gpu tells what NVIDIA GPUs a machine has, whether a program can compute on them, and if not, why not.
//
// It asks NVML, the library that comes with NVIDIA's driver, which it opens at run time: a program that imports this
// package builds and starts on a machine without a driver, where [Open] returns an [*ErrNoDriver] that says what is
// missing and what to do about it. No CUDA toolkit is needed, and no CUDA context is made, so asking costs no GPU memory.
//
//	report, err := gpu.Check(gpu.Requirements{FreeMemory: 8 << 30})
//	var refused *gpu.ErrRefused
//	switch {
//	case errors.As(err, &refused): // GPUs, but none that will do: refused.Refusals say why
//	case err != nil:               // no driver that answers: the text says what to do
//	default:                       // report.Usable are the GPUs to use
//	}
//
// A Library may be used from several goroutines. Without cgo, and on other systems than Linux, Open returns
// [ErrUnsupported].
//
// # Linking
//
// The functions of NVML are bound when they are first called, as the linker does unless it is told otherwise. A program
// linked with -z now (some hardened toolchains, -ldflags=-bindnow) would be refused by the loader: give it
// -ldflags='-extldflags=-Wl,-z,lazy'. The same holds for a C library that never binds late, such as musl.
//
// Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/
package gpu
