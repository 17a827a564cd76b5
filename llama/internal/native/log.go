//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

// SetLog routes llama.cpp's and ggml's log lines at level (ggml_log_level: 1 debug … 4 error) and above to f; nil
// silences them. f gets a negative level for the continuation of a line and may be called from any thread.
func SetLog(level int, f func(level int, text string)) {
	if f == nil {
		C.lm_log_level(5)
		logFunc.Store(nil)
		return
	}
	logFunc.Store(&f)
	C.lm_log_level(C.int32_t(level))
}
