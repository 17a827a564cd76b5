package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// release is the version of a release build, set by the linker (-X main.release=v1.2.3).
var release string

// versionInfo is what 'version --json' prints.
type versionInfo struct {
	Version  string       `json:"version"`
	OS       string       `json:"os"`
	Arch     string       `json:"arch"`
	Go       string       `json:"go"`
	LlamaCpp llamaCppInfo `json:"llama_cpp"`
}

// llamaCppInfo is the llama.cpp that this program was written for; that the linked
// library is this one is checked at start.
type llamaCppInfo struct {
	Version string `json:"version"`
	Tree    string `json:"tree"`
}

func newVersion(std stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the versions of lm-sandbox, Go and llama.cpp",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{
				Version: ownVersion(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(),
				LlamaCpp: llamaCppInfo{Version: llamacpp.Version, Tree: llamacpp.Tree},
			}
			if asJSON {
				return writeJSON(std.out, v)
			}
			_, err := fmt.Fprintf(std.out, "lm-sandbox %s %s/%s\nGo         %s\nllama.cpp  %s tree %s\n",
				v.Version, v.OS, v.Arch, v.Go, v.LlamaCpp.Version, v.LlamaCpp.Tree)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// ownVersion is the release, else what the go command recorded: the module
// version of 'go install …@v1.2.3', or "(devel)" with the commit of a clone.
func ownVersion() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && version == "(devel)" {
			version += " " + s.Value
		}
	}
	return version
}
