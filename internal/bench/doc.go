// Command bench measures the engine against llama.cpp's own programs of the same
// tree and writes BENCHMARKS.md.
//
// Results are collected in a file (-data), so that rows can be measured one by one,
// in any order, and a run that was interrupted goes on with -resume. Each cell of
// the report says when and on what it was measured. Rounds during which other
// processes used the machine are discarded (-foreign).
package main
