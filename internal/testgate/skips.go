package main

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strings"
)

// skip is one allowed skip: a test of a package, and why it may be skipped.
type skip struct {
	pkg, test, reason string
}

// readSkips reads lines of the form
//
//	PACKAGE TEST reason in words
//
// PACKAGE is a path below the module's root; TEST may hold path.Match
// wildcards, one element per subtest level. Blank lines and lines that begin
// with # are comments.
func readSkips(name string) ([]skip, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []skip
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		p := strings.Fields(line)
		if len(p) < 3 {
			return nil, fmt.Errorf("%s:%d: want PACKAGE TEST REASON: a skip without a reason is not allowed", name, n)
		}
		if _, err := path.Match(p[1], ""); err != nil {
			return nil, fmt.Errorf("%s:%d: pattern %q: %w", name, n, p[1], err)
		}
		out = append(out, skip{pkg: p[0], test: p[1], reason: strings.Join(p[2:], " ")})
	}
	return out, sc.Err()
}

// matches reports whether s allows test of the package with import path pkg.
func (s skip) matches(pkg, test string) bool {
	if pkg != s.pkg && !strings.HasSuffix(pkg, "/"+s.pkg) {
		return false
	}
	ok, err := path.Match(s.test, test)
	return err == nil && ok
}
