package main

import (
	"github.com/spf13/cobra"
)

// newRoot returns the command tree that reads from and writes to std; verbose is set
// before a command runs.
func newRoot(std stdio, verbose *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "lm-sandbox",
		Short: "a language model in this process, bash in a sandbox",
		Long: `lm-sandbox runs a local language model (llama.cpp) inside its own process and
bash inside a sandbox made of Linux namespaces.

The model is $LM_SANDBOX_MODEL, else a small default one that is downloaded at
first use. Answers go to stdout, everything else to stderr.

` + exitHelp,
		Example: `  lm-sandbox run 'Name three rivers'
  lm-sandbox chat
  lm-sandbox bash -c 'id; ls /'
  lm-sandbox serve
  lm-sandbox doctor`,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2, // usageHint
	}
	root.PersistentFlags().BoolVarP(verbose, "verbose", "v", false, "show llama.cpp's log on stderr")
	root.AddCommand(
		newRun(std),
		newChat(std),
		newAgent(std),
		newBash(std),
		newModel(std),
		newCache(std),
		newServe(std),
		newGPU(std),
		newDoctor(std),
		newVersion(std),
	)
	return root
}
