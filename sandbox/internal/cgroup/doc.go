// Package cgroup makes a control group for one sandbox: cgroup v2 where memory,
// pids and cpu are delegated to the caller, else the directories of cgroup v1
// below the caller's own, one in each hierarchy. What the caller is itself held
// to thereby holds for its sandboxes too.
//
// These are plain writes to files. github.com/containerd/cgroups/v3 would bring
// D-Bus, protobuf and eBPF into every importer of the sandbox, and takes three
// times as long.
package cgroup
