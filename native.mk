# The native library: llama.cpp at its pin, built once into the cache and linked
# into this clone (cmd/llamacpp, third_party/llama.cpp/README.md).
#
#   LLAMA_CPP_SRC=DIR   take the sources from this tree instead of fetching them
#   LLAMA_NATIVE=1      compile for this processor only
#   CUDA_ARCHS=90;120   GPU architectures of a CUDA build (default: the GPUs found)

CUDA ?= auto
export CUDA

.PHONY: native
native: ## llama.cpp at its pin, in the cache and linked into this clone
	$(GO) run ./cmd/llamacpp install

.PHONY: peers
peers: native ## llama.cpp's own programs of the same tree, in bin/peers
	$(GO) run ./cmd/llamacpp peers bin/peers
