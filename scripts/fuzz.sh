#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time, one after another.
# A crasher is left in the package's testdata/fuzz: commit it with its fix.
set -euo pipefail
time=${1:?usage: fuzz.sh DURATION}
cd "$(dirname "$0")/.."
git grep -lE '^func Fuzz[A-Za-z0-9_]+\(' -- '*_test.go' | while read -r file; do
  grep -ohE '^func Fuzz[A-Za-z0-9_]+' "$file" | cut -d' ' -f2 | while read -r target; do
    echo "== ./$(dirname "$file") $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x "./$(dirname "$file")" </dev/null
  done
done
