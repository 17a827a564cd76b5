package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/internal/progress"
	"github.com/lm-sandbox/lm-sandbox/llama"
)

func newModelQuantize(std stdio) *cobra.Command {
	var p llama.QuantizeParams
	cmd := &cobra.Command{
		Use:   "quantize MODEL OUT TYPE",
		Short: "write a model with other types of weights",
		Long: `Write a model's file with other types of weights: smaller, or faster on this
machine. OUT appears as a whole or not at all.

MODEL is ` + modelRefHelp + `.
TYPE is one of ` + strings.Join(llama.QuantizeTypes(), ", ") + `.`,
		Example: `  lm-sandbox model quantize model-F16.gguf model-Q4_K_M.gguf q4_k_m`,
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := pullModel(cmd.Context(), std, args[0])
			if err != nil {
				return err
			}
			p.Type = args[2]
			bar := progress.New(std.err, filepath.Base(args[1]), 100, progress.Percent)
			p.Progress = func(fraction float32) { bar.Set(int64(100 * fraction)) }
			err = llama.Quantize(cmd.Context(), m.Path, args[1], p)
			bar.Done()
			if err != nil {
				return modelFailure(err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&p.AllowRequantize, "allow-requantize", false, "take a model that is quantised already; what that lost stays lost")
	cmd.Flags().BoolVar(&p.Pure, "pure", false, "give all tensors the same type")
	cmd.Flags().IntVarP(&p.NThreads, "threads", "t", 0, "`number` of CPU threads; 0: one for each physical core")
	return cmd
}

func newModelTune(std stdio) *cobra.Command {
	var p llama.TuneParams
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tune [MODEL]",
		Short: "find the form of a model that this CPU computes fastest",
		Long: `Try forms of a model that this CPU may compute faster, measure what they gain
and lose, and print the path of the fastest one within the bounds: the model's
own where none is better. It is kept, and known the next time.

MODEL is ` + modelRefHelp + `.`,
		Example: `  lm-sandbox run --model "$(lm-sandbox model tune)" 'Hello'`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := pullModel(cmd.Context(), std, strings.Join(args, ""))
			if err != nil {
				return err
			}
			p.Progress = func(stage string) { fmt.Fprintln(std.err, "tune: "+stage) }
			r, err := llama.Tune(cmd.Context(), m.Path, p)
			if err != nil {
				return modelFailure(err)
			}
			if asJSON {
				return writeJSON(std.out, r)
			}
			if err := writeTuned(std.err, r); err != nil {
				return err
			}
			_, err = fmt.Fprintln(std.out, r.Path)
			return err
		},
	}
	cmd.Flags().Float64Var(&p.MaxKL, "max-kl", 0, "most `loss`: divergence of the predictions beyond the file's own rounding, in nats per token; 0: 0.001")
	cmd.Flags().Float64Var(&p.MinDecode, "min-decode", 0, "least `part` of the model's own speed of generating; 0: 0.9")
	cmd.Flags().StringSliceVar(&p.Types, "types", nil, "`types` of weights to try (default Q8_0,Q4_0)")
	cmd.Flags().IntVarP(&p.NThreads, "threads", "t", 0, "`number` of CPU threads; 0: one for each physical core")
	cmd.Flags().BoolVar(&p.Again, "again", false, "measure although it was measured before")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the figures as JSON")
	return cmd
}

func writeTuned(out io.Writer, r *llama.TuneResult) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "\tMB\tprefill\tdecode\tloss\t\n") // Flush has the error
	fmt.Fprintf(w, "own\t%.0f\t%.1f/s\t%.1f/s\t0\t\n", float64(r.File.Bytes)/1e6, r.File.Prefill, r.File.Decode)
	for _, c := range r.Candidates {
		fmt.Fprintf(w, "%s\t%.0f\t%.1f/s (%.2f)\t%.1f/s (%.2f)\t%.5f\t%s\n",
			c.Type, float64(c.Bytes)/1e6, c.Prefill, c.PrefillGain, c.Decode, c.DecodeGain, c.Loss, c.Verdict)
	}
	return w.Flush()
}
