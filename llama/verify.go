package llama

// Verify reads the head of a GGUF file, and of the other parts of a split model, and refuses what could not be loaded, or would end the process: llama.cpp asserts much of
// what it reads. [LoadModel] asks it first. It reads no weights and takes milliseconds.
//
// For the architectures llama, gemma3, mamba, jamba, lfm2, bert, t5 and qwen3 no file is known that Verify accepts and that ends the
// process; the tests look for one among changed files. For others, what all have in common is checked: load a file that you do not
// trust in a process of its own (engine.Params.Isolated).
//
// # Errors
//
//   - [ErrModelFormat], with the key or the tensor that is wrong
//   - those of the file system
func Verify(path string) error {
	_, err := checkModelFile(path)
	return err
}
