package agent

// DefaultExamples are those of a [Config] that has none. With them the default model,
// of 135 million parameters, does simple tasks that are not among them; without, none.
func DefaultExamples() []Example {
	return []Example{
		{"Make an empty file named todo.md.", "touch todo.md", "[no output, exit code 0]", "I made the empty file todo.md."},
		{"How many words are in story.txt?", "wc -w < story.txt", "1204", "story.txt has 1204 words."},
		{"Delete old.log.", "rm old.log", "[no output, exit code 0]", "I deleted old.log."},
		{"Which kernel is this?", "uname -r", "6.1.0", "The kernel is 6.1.0."},
		{"Print the first 2 lines of poem.txt.", "head -n 2 poem.txt", "Roses are red\nviolets are blue", "The first 2 lines of poem.txt are:\nRoses are red\nviolets are blue"},
		{"Print the first line of names.txt.", "head -n 1 names.txt", "Alice Miller", "The first line of names.txt is: Alice Miller"},
	}
}
