package engine_test

import (
	"log"
	"os"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// fixtureFile writes a model of random weights for an example; remove it once it is loaded.
func fixtureFile(model *fixture.File) (path string, remove func()) {
	f, err := os.CreateTemp("", "*.gguf")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.Write(model.Bytes()); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	return f.Name(), func() { _ = os.Remove(f.Name()) }
}
