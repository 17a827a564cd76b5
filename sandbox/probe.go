package sandbox

import "context"

// Feature is one thing that the sandbox is built on.
type Feature struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"` // what to do where OK is false
}

// LevelReport is whether a host allows a level, as a command has shown that was run there.
type LevelReport struct {
	Level  Level    `json:"level"`
	OK     bool     `json:"ok"`
	Detail string   `json:"detail"`
	Remedy string   `json:"remedy,omitempty"` // what to do where OK is false
	Lacks  []string `json:"lacks,omitempty"`  // as Result.Lacks
}

// Report is what a host allows.
type Report struct {
	Level    Level         `json:"level"`  // the highest; 0: no sandbox
	Levels   []LevelReport `json:"levels"` // from the highest to the lowest
	Features []Feature     `json:"features"`
}

// Probe tries what this host allows, by running a command in a sandbox of each
// level. Its error is that of the run with a zero [Config], which needs
// LevelNamespaces, or nil; the report is complete either way.
func Probe(ctx context.Context) (Report, error) { return probe(ctx) }
