package main

import (
	"errors"
	"path/filepath"
	"unsafe"

	"github.com/hybridgroup/yzma/pkg/llama"
	"github.com/jupiterrider/ffi"
)

// modelParams is llama_model_params of the pinned tree. That of yzma v1.24.0 lacks
// lazy_mode: what follows it is read 8 bytes off, and the model loads without weights.
type modelParams struct {
	devices, overrides                                   uintptr
	gpuLayers, splitMode, loadMode, lazyMode, mainGPU    int32
	tensorSplit, progress, progressUserData, kvOverrides uintptr
	vocabOnly, check, extraBufts, noHost, noAlloc, mtp   uint8
}

var modelParamsType = ffi.NewType(
	&ffi.TypePointer, &ffi.TypePointer,
	&ffi.TypeSint32, &ffi.TypeSint32, &ffi.TypeSint32, &ffi.TypeSint32, &ffi.TypeSint32,
	&ffi.TypePointer, &ffi.TypePointer, &ffi.TypePointer, &ffi.TypePointer,
	&ffi.TypeUint8, &ffi.TypeUint8, &ffi.TypeUint8, &ffi.TypeUint8, &ffi.TypeUint8, &ffi.TypeUint8,
)

// load is llama.ModelLoadFromFile with the default parameters.
func load(libraries, path string) (llama.Model, error) {
	lib, err := ffi.Load(filepath.Join(libraries, "libllama.so"))
	if err != nil {
		return 0, err
	}
	defaults, err := lib.Prep("llama_model_default_params", &modelParamsType)
	if err != nil {
		return 0, err
	}
	fromFile, err := lib.Prep("llama_model_load_from_file", &ffi.TypePointer, &ffi.TypePointer, &modelParamsType)
	if err != nil {
		return 0, err
	}
	var params modelParams
	defaults.Call(unsafe.Pointer(&params))
	var model llama.Model
	file := &append([]byte(path), 0)[0]
	fromFile.Call(unsafe.Pointer(&model), unsafe.Pointer(&file), unsafe.Pointer(&params))
	if model == 0 {
		return 0, errors.New("cannot load " + path)
	}
	return model, nil
}
