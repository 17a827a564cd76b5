# The targets README names. `make` alone lists them.
#
#   CUDA=auto|1|0   GPU support of the native library (default auto)

.DEFAULT_GOAL := help
SHELL         := /bin/bash
.SHELLFLAGS   := -eu -o pipefail -c
GO            ?= go
# Without -trimpath Go's build cache holds the directory of the clone: a second
# clone would compile everything again, the C++ of the shim too.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)
# What reads the sources does without it: with it, the cgo files in the build
# cache name the clone that compiled them first, which may be gone.
READ_GOFLAGS   := $(filter-out -trimpath,$(GOFLAGS))
CACHE         := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lm-sandbox

GOLANGCI_VERSION    := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
GOLANGCI            := $(CACHE)/tools/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
GOVULNCHECK         := $(CACHE)/tools/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck

include native.mk
include sandbox.mk

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: build
build: native ## bin/lm-sandbox
	$(GO) build -o bin/lm-sandbox ./cmd/lm-sandbox

.PHONY: model
model: build ## pull the default model
	bin/lm-sandbox model pull default

.PHONY: run
run: model ## build everything, then the demonstration: a real answer, a real sandbox
	@echo; echo '== a local model answers, inside a Go program (examples/hello) =='
	$(GO) run ./examples/hello
	@echo; echo '== a command in the sandbox, and what it cannot reach (examples/sandbox) =='
	$(GO) run ./examples/sandbox
	@echo; echo '== the model does a task with bash, in a file shuffled just now (lm-sandbox agent) =='
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	printf '%s\n' 'Anna Stone' 'Hugo Fields' 'Clara Winter' 'Emma Baker' 'Felix Marsh' | shuf > "$$dir/log.txt"; \
	bin/lm-sandbox agent --workspace "$$dir" -p 'Print the last line of log.txt.'

# The packages' tests run side by side: OpenMP's threads, which spin for as long as a third of a second by
# themselves, must give the processors away.
.PHONY: test
test: export GOMP_SPINCOUNT ?= 4000
test: native peers models ## every test, with the race detector; a skip needs a line in skips.txt
	$(GO) run ./internal/testgate -skips skips.txt -- -race -timeout 20m ./...

# One package at a time: the tests measure the memory of a GPU that nobody else uses.
.PHONY: test-gpu
test-gpu: build peers models ## the tests that take a GPU; without one they are skipped and say why
	@bin/lm-sandbox gpu || true
	LM_SANDBOX_TEST_GPU=1 $(GO) run ./internal/testgate -skips skips.txt -- -race -p 1 -count 1 -timeout 30m -run GPU ./llama ./llama/engine ./sandbox ./gpu

.PHONY: test-long
test-long: test ## make test, importers of this module, 10,000 disturbed sandboxes, 100,000 changed model files, the shim under sanitizers, then each fuzz target for FUZZTIME (default 10m)
	$(GO) run ./internal/testgate -skips skips.txt -- -tags long -count 1 -timeout 60m ./internal/importer ./sandbox ./llama ./llama/engine ./llama/internal/native
	$(GO) run ./internal/testgate -skips skips.txt -- -race -tags long -count 1 -timeout 20m -run TestSoak ./llama/engine
	scripts/fuzz.sh $(or $(FUZZTIME),10m)

# The models of the tests: pulled once, so that no test's time limit pays for it.
.PHONY: models
models: build
	bin/lm-sandbox model pull default
	bin/lm-sandbox model pull gemma3-270m

.PHONY: check
check: native lint helper-verify helper-analyze cross ## format, vet, lint, go.mod, the helper's bytes and analysis, other platforms
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these files'; exit 1; }
	GOFLAGS='$(READ_GOFLAGS)' $(GO) vet ./...
	$(GO) mod tidy -diff

.PHONY: lint
lint: native $(GOLANGCI)
	GOFLAGS='$(READ_GOFLAGS)' $(GOLANGCI) run ./...

.PHONY: cross
cross: ## compile for the platforms that this machine is not
	GOOS=linux  GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./...
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./...
	GOOS=linux  GOARCH=amd64 CGO_ENABLED=0 $(GO) vet ./...

.PHONY: vuln
vuln: native $(GOVULNCHECK) ## known vulnerabilities of the dependencies
	GOFLAGS='$(READ_GOFLAGS)' $(GOVULNCHECK) ./...

$(GOLANGCI):
	GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(GOVULNCHECK):
	GOBIN=$(@D) $(GO) install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

# BENCH are flags of the bench: -quick, -rows shared,arrival, -resume (go run ./internal/bench -h).
.PHONY: bench
bench: build peers models ## BENCHMARKS.md: the engine against llama.cpp's own programs (hours; BENCH=-quick); the sandbox against its peers
	$(GO) run ./internal/bench $(BENCH)
	scripts/bench-sandbox.sh

.PHONY: clean
clean: ## remove what the build left in the clone (the cache stays)
	rm -rf bin third_party/llama.cpp/source third_party/llama.cpp/build llama/internal/native/link_generated.go
