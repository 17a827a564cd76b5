package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// edit compiles the edited sources as CMake compiled the original ones and puts them
// in their place in the staged libraries. The build directory stays as it is: the
// peers are linked from it.
func (b cmakeBuild) edit(ctx context.Context, stage, ar string) error {
	dir, err := os.MkdirTemp(filepath.Dir(stage), "edit")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, e := range b.edits {
		text, err := os.ReadFile(filepath.Join(b.sourceDir(), e.File))
		if err != nil {
			return err
		}
		for _, i := range e.Inserts {
			if n := bytes.Count(text, []byte(i.Before)); n != 1 {
				return fmt.Errorf("an edit of %s does not fit this tree: %q is in it %d times, want once: see third_party/llama.cpp/edits.go", e.File, i.Before, n)
			}
			text = bytes.Replace(text, []byte(i.Before), []byte(i.Text+i.Before), 1)
		}
		if err := b.recompile(ctx, e.File, text, dir, filepath.Join(stage, "lib", e.Library), ar); err != nil {
			return err
		}
	}
	return nil
}

// recompile replaces the member of an archive that was made of a file of the tree.
func (b cmakeBuild) recompile(ctx context.Context, file string, text []byte, dir, archive, ar string) error {
	original := filepath.Join(b.sourceDir(), file)
	command, in, err := b.compileCommand(original)
	if err != nil {
		return err
	}
	source := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(source, text, 0o644); err != nil {
		return err
	}
	output := outputFlag.FindStringSubmatch(command)
	if output == nil || strings.Count(command, original) != 1 {
		return fmt.Errorf("CMake's command for %s is not understood: %s", file, command)
	}
	object := filepath.Join(dir, filepath.Base(output[1]))
	command = strings.Replace(command, original, source, 1)
	command = strings.Replace(command, output[0], " -o "+shellQuote(object), 1)
	command += " -I" + shellQuote(filepath.Dir(original)) // its own headers lie beside it
	if err := (child{args: []string{"sh", "-c", command}, dir: in, env: b.buildEnv(), lock: b.lock}).run(ctx); err != nil {
		return err
	}
	ar = cmp.Or(ar, "ar")
	members, err := child{args: []string{ar, "t", archive}}.output(ctx)
	if err != nil {
		return err
	}
	if n := strings.Count("\n"+members+"\n", "\n"+filepath.Base(object)+"\n"); n != 1 {
		return fmt.Errorf("%s has %d members named %s, want one", archive, n, filepath.Base(object))
	}
	return child{args: []string{ar, "rs", archive, object}}.run(ctx)
}

var outputFlag = regexp.MustCompile(` -o (\S+)`)

// compileCommand is how CMake compiles a file, for a shell, and where.
func (b cmakeBuild) compileCommand(file string) (command, dir string, err error) {
	data, err := os.ReadFile(filepath.Join(b.dir, "compile_commands.json"))
	if err != nil {
		return "", "", err
	}
	var commands []struct{ Directory, Command, File string }
	if err := json.Unmarshal(data, &commands); err != nil {
		return "", "", fmt.Errorf("compile_commands.json: %w", err)
	}
	for _, c := range commands {
		if c.File == file {
			return c.Command, c.Directory, nil
		}
	}
	return "", "", fmt.Errorf("compile_commands.json does not know %s", file)
}
