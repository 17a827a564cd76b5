package sandbox

import "context"

// Feature is one thing that the sandbox is built on.
type Feature struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // what to do where OK is false
}

// Report is what a host allows.
type Report struct {
	Level    Level     `json:"level"` // 0: no sandbox
	Features []Feature `json:"features"`
}

// Probe tries what this host allows, by running a command in a sandbox. Its
// error is that of the run, or nil; the report is complete either way.
func Probe(ctx context.Context) (Report, error) { return probe(ctx) }
