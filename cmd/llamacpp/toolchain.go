package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// compilers returns the C and C++ compilers that cgo will use, so that library
// and program agree on the C++ runtime.
func compilers(ctx context.Context) (cc, cxx []string) {
	var env struct{ CC, CXX string }
	if out, err := exec.CommandContext(ctx, "go", "env", "-json", "CC", "CXX").Output(); err == nil {
		// What cannot be read is empty and filled below.
		_ = json.Unmarshal(out, &env)
	}
	defaultCC, defaultCXX := "gcc", "g++"
	if runtime.GOOS == "darwin" {
		defaultCC, defaultCXX = "clang", "clang++"
	}
	return splitQuoted(cmp.Or(env.CC, os.Getenv("CC"), defaultCC)), splitQuoted(cmp.Or(env.CXX, os.Getenv("CXX"), defaultCXX))
}

// hostCompiler is the compiler in a command that may begin with a launcher.
func hostCompiler(command []string) string {
	for _, word := range command {
		if !slices.Contains([]string{"ccache", "sccache", "distcc"}, filepath.Base(word)) {
			return word
		}
	}
	return command[0]
}

// compilerIdentity names compiler, version and target. It is part of the key:
// an upgraded compiler builds the library anew.
func (a *app) compilerIdentity(ctx context.Context) (string, error) {
	var parts []string
	for _, command := range [][]string{a.cc, a.cxx} {
		version, err := child{args: append(slices.Clone(command), "--version")}.output(ctx)
		if err != nil {
			return "", err
		}
		target, err := child{args: append(slices.Clone(command), "-dumpmachine")}.output(ctx)
		if err != nil {
			return "", err
		}
		first, _, _ := strings.Cut(version, "\n")
		parts = append(parts, first+" "+target)
	}
	return strings.Join(parts, "; "), nil
}

// generator returns CMake's generator and the program that carries it out.
func generator() (name, program string) {
	if path, err := exec.LookPath("ninja"); err == nil {
		return "Ninja", path
	}
	return "Unix Makefiles", "make"
}

// tool is a program that the build needs and the package that brings it.
type tool struct {
	program string
	packages
}

// packages are a tool's package names for apt, dnf, apk, pacman and brew.
type packages struct{ apt, dnf, apk, pacman, brew string }

func same(name string) packages { return packages{name, name, name, name, name} }

// needCompilers fails with what to install when a compiler is absent.
func (a *app) needCompilers() error { return need(a.compilerTools()) }

// needBuild is needCompilers and what else a build from the present cache takes.
func (a *app) needBuild() error {
	_, program := generator()
	tools := append(a.compilerTools(), tool{"cmake", same("cmake")}, tool{program, same("make")})
	if !exists(a.sourceDir()) {
		tools = append(tools, a.fetchTools()...)
	}
	return need(tools)
}

// fetchTools are what fetch cannot do without.
func (a *app) fetchTools() []tool {
	if a.src != "" && !exists(filepath.Join(a.src, ".git")) {
		return nil
	}
	return []tool{{"git", same("git")}}
}

func (a *app) compilerTools() []tool {
	if strings.Contains(a.cxx[0], "clang") {
		clang := packages{"clang", "clang", "clang", "clang", "llvm"}
		return []tool{{a.cc[0], clang}, {a.cxx[0], clang}}
	}
	return []tool{
		{a.cc[0], packages{"gcc", "gcc", "build-base", "gcc", "gcc"}},
		{a.cxx[0], packages{"g++", "gcc-c++", "build-base", "gcc", "gcc"}},
	}
}

// need names all tools that are absent at once, with the one command that brings
// them where the system's package manager is known.
func need(tools []tool) error {
	var missing, names []string
	install, pick := packageManager()
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err == nil {
			continue
		}
		missing = append(missing, t.program)
		if name := pick(t.packages); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if install == "" {
		return fmt.Errorf("missing: %s; install the packages that bring them: %s", strings.Join(missing, ", "), strings.Join(names, " "))
	}
	return fmt.Errorf("missing: %s; run: %s %s", strings.Join(missing, ", "), install, strings.Join(names, " "))
}

// packageManager returns the system's install command, "" where unknown, and how
// to name a package for it.
func packageManager() (install string, pick func(packages) string) {
	if runtime.GOOS == "darwin" {
		return "brew install", func(p packages) string { return p.brew }
	}
	return linuxPackageManager(osRelease("/etc/os-release"))
}

func linuxPackageManager(ids []string) (install string, pick func(packages) string) {
	for _, id := range ids {
		switch id {
		case "debian", "ubuntu":
			return "sudo apt-get install", func(p packages) string { return p.apt }
		case "fedora", "rhel", "centos":
			return "sudo dnf install", func(p packages) string { return p.dnf }
		case "alpine":
			return "sudo apk add", func(p packages) string { return p.apk }
		case "arch":
			return "sudo pacman -S", func(p packages) string { return p.pacman }
		}
	}
	return "", func(p packages) string { return p.apt }
}

// osRelease returns the distribution's ID, then those it is like.
func osRelease(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var id, like []string
	for s := bufio.NewScanner(f); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), "=")
		switch words := strings.Fields(strings.Trim(value, `"'`)); key {
		case "ID":
			id = words
		case "ID_LIKE":
			like = words
		}
	}
	return append(id, like...)
}
