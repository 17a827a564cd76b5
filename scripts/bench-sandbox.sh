#!/usr/bin/env bash
# The sandbox's measures against its peers: as the caller and, where that is root,
# as uid 1000 too. Needs bubblewrap; runc for the crowd. For a quiet machine.
#   scripts/bench-sandbox.sh [PAIRS]
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${1:-200}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
go test -c -o "$dir/sandbox.test" ./sandbox
CGO_ENABLED=0 go build -o "$dir/probe" ./sandbox/internal/probe
cp -r sandbox/testdata "$dir/testdata"
cd "$dir"

bench() { # NAMES TIMES COMMAND…
	local names=$1 times=$2
	shift 2
	LM_SANDBOX_TEST_PROBE=$dir/probe "$@" "$dir/sandbox.test" -test.run '^$' -test.bench "$names" -test.benchtime "$times" -test.timeout 30m
}

all() {
	bench 'RunVsBwrap|Pool|SessionExec' "${pairs}x" "$@"
	bench LargeParent 20x "$@"
	bench 'Output|WorkInside' 10x "$@"
	bench Sustained 1x "$@"
}

echo "== as uid $(id -u)"
all env
bench Crowd 5x env
if [ "$(id -u)" = 0 ]; then
	echo '== as uid 1000'
	mkdir "$dir/home"
	chown 1000:1000 "$dir/home"
	all setpriv --reuid 1000 --regid 1000 --clear-groups env -i PATH="$PATH" HOME="$dir/home" TMPDIR="$dir/home" LM_SANDBOX_TEST_PROBE="$dir/probe"
fi
