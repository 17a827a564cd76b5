package llama

// Verify reads the head of a GGUF file and refuses what llama.cpp could not load, or would end the process for.
func Verify(path string) error {
	_, err := checkModelFile(path)
	return err
}
