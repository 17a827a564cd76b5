package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/internal/progress"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// modelRefHelp says what names a model, wherever one is asked for.
const modelRefHelp = `default, gemma3-270m, a file, an https:// address or hf:OWNER/REPO[:FILE|QUANT]`

func newModel(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "download, list, quantise and tune models",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModelPull(std), newModelList(std), newModelQuantize(std), newModelTune(std))
	return cmd
}

func newModelPull(std stdio) *cobra.Command {
	return &cobra.Command{
		Use:   "pull [MODEL]",
		Short: "download a model and print its path",
		Long: `Download a model, verify it, and print its path on stdout. A model that is
already there is not downloaded again; a broken download is resumed.

MODEL is ` + modelRefHelp + `.`,
		Example: `  lm-sandbox model pull
  lm-sandbox model pull hf:bartowski/SmolLM2-360M-Instruct-GGUF:Q4_K_M`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := pullModel(cmd.Context(), std, strings.Join(args, ""))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(std.out, m.Path)
			return err
		},
	}
}

// modelEntry is one element of what 'model ls --json' prints.
type modelEntry struct {
	Name    string `json:"name"`
	Ref     string `json:"ref"`
	Size    int64  `json:"size"`
	Path    string `json:"path"`
	SHA256  string `json:"sha256"`
	Source  string `json:"source"`
	License string `json:"license"`
}

func newModelList(std stdio) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "list the models that were downloaded",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			// A damaged model is an error beside those that can be used.
			models, err := hub.List(hub.Options{})
			if err != nil {
				err = modelFailure(err)
			}
			return errors.Join(writeModels(std.out, models, asJSON), err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

func writeModels(out io.Writer, models []hub.Model, asJSON bool) error {
	if asJSON {
		entries := make([]modelEntry, len(models))
		for i, m := range models {
			entries[i] = modelEntry{m.Name, m.Ref, m.Size, m.Path, m.SHA256, m.Source, m.License}
		}
		return writeJSON(out, entries)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, m := range models {
		fmt.Fprintf(w, "%s\t%d\t%s\n", m.Ref, m.Size, m.Path) // Flush has the error
	}
	return w.Flush()
}

// pullModel brings the model that ref names, with its progress on stderr.
func pullModel(ctx context.Context, std stdio, ref string) (hub.Model, error) {
	var bar *progress.Bar
	m, err := hub.Pull(ctx, ref, hub.Options{Progress: func(p hub.Progress) {
		if bar == nil {
			bar = progress.New(std.err, cmp.Or(ref, "default"), p.Total, progress.Bytes)
		}
		bar.SetTotal(p.Total)
		bar.Set(p.Done)
	}})
	if bar != nil {
		bar.Done()
	}
	if err != nil {
		return hub.Model{}, modelFailure(err)
	}
	return m, nil
}
