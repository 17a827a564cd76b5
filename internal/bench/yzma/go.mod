module github.com/lm-sandbox/lm-sandbox/internal/bench/yzma

go 1.26.0

require (
	github.com/hybridgroup/yzma v1.24.0
	github.com/jupiterrider/ffi v0.7.0
)

require (
	github.com/ebitengine/purego v0.10.0 // indirect
	golang.org/x/sys v0.42.0 // indirect
)
