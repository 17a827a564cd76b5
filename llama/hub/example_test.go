package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

func ExamplePull() {
	m, err := hub.Pull(context.Background(), "default", hub.Options{
		Progress: func(p hub.Progress) { fmt.Fprintf(os.Stderr, "\r%d of %d bytes", p.Done, p.Total) },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Name, "is at", m.Path)
}

func ExamplePull_errors() {
	_, err := hub.Pull(context.Background(), "hf:owner/repo", hub.Options{})
	var several *hub.AmbiguousError
	var space *hub.DiskFullError
	switch {
	case errors.As(err, &several):
		fmt.Println("choose one of", several.Candidates)
	case errors.As(err, &space):
		fmt.Println("free", space.Need, "bytes in", space.Dir)
	case errors.Is(err, hub.ErrAccess):
		fmt.Println("set HF_TOKEN")
	case err != nil:
		log.Fatal(err)
	}
}

func ExamplePull_path() {
	dir, err := os.MkdirTemp("", "hub")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "page.gguf")
	if err := os.WriteFile(path, []byte("<html>not a model</html>"), 0o600); err != nil {
		log.Fatal(err)
	}
	_, err = hub.Pull(context.Background(), path, hub.Options{})
	fmt.Println(errors.Is(err, hub.ErrModelFormat))
	// Output: true
}

func ExampleList() {
	models, err := hub.List(hub.Options{Dir: "/does/not/exist"})
	for _, m := range models {
		fmt.Println(m.Ref, m.Size, m.Path)
	}
	fmt.Println(len(models), err) // the models that can be used come with an error about those that cannot
	// Output: 0 <nil>
}
