package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// cacheDirHelp is the help of --cache-dir.
const cacheDirHelp = "`directory` where read prompts outlive the process, which must be private; \"\": none (default $LM_SANDBOX_CACHE_DIR)"

var errNoCacheDir = usage(errors.New("no directory was named"), "add --cache-dir DIR, or set LM_SANDBOX_CACHE_DIR")

func newCache(std stdio) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "show or clear what --cache-dir keeps of prompts",
		Long: `Print how much the directory holds that run, chat, agent and serve were given with
--cache-dir: the states of the model after the prompts they have read.`,
		Example: `  lm-sandbox run --cache-dir ~/.cache/prompts "$(cat question)"
  lm-sandbox cache --cache-dir ~/.cache/prompts
  lm-sandbox cache clear --cache-dir ~/.cache/prompts`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return errNoCacheDir
			}
			states, bytes, err := engine.CacheUsage(dir)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(std.out, "%d states, %d bytes\n", states, bytes)
			return err
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "clear",
		Short: "remove them",
		Long:  "Remove the states from the directory, and nothing else.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return errNoCacheDir
			}
			return engine.ClearCache(dir)
		},
	})
	cmd.PersistentFlags().StringVar(&dir, "cache-dir", os.Getenv("LM_SANDBOX_CACHE_DIR"), cacheDirHelp)
	return cmd
}
