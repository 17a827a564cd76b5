# The native library: llama.cpp at its pin, built once into the cache and linked
# into this clone (cmd/llamacpp, third_party/llama.cpp/README.md).
#
#   LLAMA_CPP_SRC=DIR   take the sources from this tree instead of fetching them
#   LLAMA_NATIVE=1      compile for this processor only
#   CUDA=wheels         CUDA's compiler and libraries from PyPI, by pip, into the cache
#   CUDA_VERSION=12.9   the CUDA release (default: the one found; wheels: 13.0)
#   CUDA_ARCHS=90,120   GPU architectures of a CUDA build (default: the GPUs found)

CUDA ?= auto
export CUDA

.PHONY: native
native: ## llama.cpp at its pin, in the cache and linked into this clone
	$(GO) run ./cmd/llamacpp install

.PHONY: peers
peers: native ## llama.cpp's own programs of the same tree, in bin/peers
	$(GO) run ./cmd/llamacpp peers bin/peers
	$(GO) build -tags oracle -o bin/peers/chat-oracle ./llama/internal/native/oracle

# CI has no GPU and no time for the whole backend: it compiles for one
# architecture what includes all of its headers.
.PHONY: cuda-smoke
cuda-smoke: ## two CUDA kernels of llama.cpp, compiled with CUDA from PyPI
	CUDA=$(or $(filter-out auto 0,$(CUDA)),wheels) CUDA_ARCHS=$(or $(CUDA_ARCHS),90) $(GO) run ./cmd/llamacpp cuda-smoke
