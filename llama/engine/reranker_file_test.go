package engine_test

import (
	"log"
	"os"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// rerankerFile writes a random-weight reranker; remove it once it is loaded.
func rerankerFile() (path string, remove func()) {
	f, err := os.CreateTemp("", "reranker-*.gguf")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.Write(fixture.Reranker().Bytes()); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	return f.Name(), func() { _ = os.Remove(f.Name()) }
}
