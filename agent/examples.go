package agent

// DefaultExamples are those of a [Config] that has none. With them the default model,
// of 135 million parameters, does simple tasks that are not among them; without, none.
func DefaultExamples() []Example {
	return []Example{
		{"Print the first line of names.txt.", "head -n 1 names.txt", "Alice Miller", "The first line of names.txt is: Alice Miller"},
		{"How many words are in story.txt?", "wc -w < story.txt", "1204", "story.txt has 1204 words."},
		{"Make an empty file named todo.md.", "touch todo.md", "[no output, exit code 0]", "I made the empty file todo.md."},
		{"Which kernel is this?", "uname -r", "6.1.0", "The kernel is 6.1.0."},
		{"Delete old.log.", "rm old.log", "[no output, exit code 0]", "I deleted old.log."},
	}
}
