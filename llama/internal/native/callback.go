//go:build cgo

package native

// Functions that C++ calls. They are the only way from C into Go, and no panic leaves them: it could not unwind the
// C++ frames below.

/*
#include <stdbool.h>
#include <stdint.h>
*/
import "C"

import (
	"runtime/cgo"
	"sync/atomic"
)

//export lmGoProgress
func lmGoProgress(handle C.uintptr_t, fraction C.float) (goOn C.bool) {
	defer func() {
		if recover() != nil {
			goOn = false
		}
	}()
	progress, ok := cgo.Handle(handle).Value().(func(float32) bool)
	return C.bool(ok && progress(float32(fraction)))
}

var logFunc atomic.Pointer[func(level int, text string)]

//export lmGoLog
func lmGoLog(level C.int32_t, text *C.char) {
	defer func() { _ = recover() }()
	if f := logFunc.Load(); f != nil {
		(*f)(int(level), C.GoString(text))
	}
}
