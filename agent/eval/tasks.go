package eval

// Task is a task whose doing can be checked.
type Task struct {
	Name string
	Task string // what the model is told
	// Setup is a bash script that fills the workspace. It runs in it, as Check does.
	Setup string
	// Check is a bash script with the answer on its stdin; its exit code is 0 where the
	// task was done.
	Check string
}

// Tasks are twenty tasks, from a single command to a repair. None of them is one of
// agent.DefaultExamples.
func Tasks() []Task {
	return []Task{
		{"make a directory", "Make a directory named reports.",
			``, `test -d reports`},
		{"copy a file", "Copy a.txt to b.txt.",
			`echo "first of all" > a.txt`, `cmp a.txt b.txt`},
		{"rename a file", "Rename draft.txt to final.txt.",
			`echo text > draft.txt`, `test ! -e draft.txt && grep -qx text final.txt`},
		{"remove a directory", "Remove the directory build and everything in it.",
			`mkdir -p build/a src; touch build/a/b src/c`, `test ! -e build && test -e src/c`},
		{"write a word", "Write the word hello into the file greeting.txt.",
			``, `grep -qxi hello greeting.txt`},
		{"append a line", "Append the line done to status.txt.",
			`echo started > status.txt`, `printf 'started\ndone\n' | cmp - status.txt`},
		{"count lines", "How many lines are in notes.txt?",
			`seq 1 37 > notes.txt`, `grep -qw 37`},
		{"last line", "Print the last line of log.txt.",
			`printf 'start\nwork\nstopped by operator\n' > log.txt`, `grep -qi 'stopped by operator'`},
		{"sort a file", "Sort fruits.txt and write the result to sorted.txt.",
			`printf 'plum\napple\ncherry\n' > fruits.txt`, `printf 'apple\ncherry\nplum\n' | cmp - sorted.txt`},
		{"make executable", "Make the file run.sh executable.",
			`printf '#!/bin/sh\necho ok\n' > run.sh; chmod 644 run.sh`, `test -x run.sh && test "$(./run.sh)" = ok`},
		{"count files", "How many files are in the directory src?",
			`mkdir src; touch src/{a,b,c,d,e,f}.go`, `grep -qiwE '6|six'`},
		{"find a line", "Print the line of app.log that contains the word ERROR.",
			`printf 'INFO up\nERROR disk sda is full\nINFO down\n' > app.log`, `grep -q 'disk sda is full'`},
		{"multiply", "What is 317 times 23?",
			``, `tr -d , | grep -qw 7291`},
		{"replace a word", "Replace red with blue in colors.txt.",
			`printf 'red\ngreen\nred car\n' > colors.txt`, `printf 'blue\ngreen\nblue car\n' | cmp - colors.txt`},
		{"find a file", "Find the file named secret.txt and print what it contains.",
			`mkdir -p a/b/c d; echo 'the owl flies at noon' > a/b/c/secret.txt`, `grep -qi 'owl flies at noon'`},
		{"size of a file", "What is the size of data.bin in bytes?",
			`head -c 4321 /dev/zero > data.bin`, `tr -d , | grep -qw 4321`},
		{"archive", "Make a tar archive named all.tar of the directory docs.",
			`mkdir docs; echo a > docs/a.md; echo b > docs/b.md`, `tar -tf all.tar | grep -q 'docs/b.md'`},
		{"numbers", "Write the numbers from 1 to 10 into numbers.txt, one in each line.",
			``, `seq 1 10 | cmp - numbers.txt`},
		{"sum", "What is the sum of the numbers in numbers.txt?",
			`printf '12\n305\n8\n41\n' > numbers.txt`, `grep -qw 366`},
		{"repair a script", "The script fix.sh fails. Repair it so that it prints ok.",
			`printf '#!/bin/bash\nif true; then\n  echo ok\n' > fix.sh; chmod +x fix.sh`, `test "$(bash fix.sh 2>/dev/null)" = ok`},
	}
}
