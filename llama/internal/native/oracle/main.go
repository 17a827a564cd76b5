//go:build cgo && oracle

// Command oracle asks llama.cpp's own chat handling, without the shim, what it makes of requests and answers (chat.cpp). It is
// one of the programs of `make peers`.
package main

/*
#cgo CXXFLAGS: -std=c++17 -O1 -g0 -w
#cgo CPPFLAGS: -I${SRCDIR}/../../../../third_party/llama.cpp/source
#cgo CPPFLAGS: -I${SRCDIR}/../../../../third_party/llama.cpp/source/common
#cgo CPPFLAGS: -I${SRCDIR}/../../../../third_party/llama.cpp/source/include
#cgo CPPFLAGS: -I${SRCDIR}/../../../../third_party/llama.cpp/source/ggml/include
#cgo CPPFLAGS: -I${SRCDIR}/../../../../third_party/llama.cpp/source/vendor
#cgo CPPFLAGS: -I${SRCDIR}/../../../../third_party/llama.cpp/source/src
#cgo CPPFLAGS: -I${SRCDIR}/../../../../third_party/llama.cpp/source/tools/server
#cgo CPPFLAGS: -I${SRCDIR}/../../../../third_party/llama.cpp/source/tools/mtmd
int chat_oracle(const char * mode);
*/
import "C"

import (
	"fmt"
	"os"

	_ "github.com/lm-sandbox/lm-sandbox/llama/internal/native" // links llama.cpp
)

func main() {
	if len(os.Args) != 2 || os.Args[1] != "cases" && os.Args[1] != "render" {
		fmt.Fprintln(os.Stderr, "usage: chat-oracle cases | render")
		os.Exit(2)
	}
	os.Exit(int(C.chat_oracle(C.CString(os.Args[1]))))
}
