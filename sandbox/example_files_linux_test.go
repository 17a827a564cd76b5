package sandbox_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// project is a directory with one file.
func project(name, content string) string {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		log.Fatal(err)
	}
	return dir
}

func ExampleOpenFiles() {
	dir := project("main.py", "print(6*7)\n")
	defer os.RemoveAll(dir)
	files, err := sandbox.OpenFiles(dir, sandbox.FileLimits{File: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	if err := files.PutFile("data/in.txt", strings.NewReader("hello\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	if _, err := sandbox.Run(context.Background(), sandbox.Config{Workspace: dir}, "ln -s /etc/passwd secrets; wc -c < data/in.txt > out"); err != nil {
		log.Fatal(err)
	}
	for info, err := range files.Walk(".") {
		fmt.Println(info.Path, info.Target, err)
	}
	r, info, err := files.GetFile("out")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	fmt.Printf("%d bytes: %s%v\n", info.Size, b, err)
	_, _, err = files.GetFile("secrets")
	var refused *sandbox.ErrFile
	fmt.Println(errors.As(err, &refused))
	// Output:
	// data  <nil>
	// data/in.txt  <nil>
	// main.py  <nil>
	// out  <nil>
	// secrets /etc/passwd <nil>
	// 2 bytes: 6
	// <nil>
	// true
}

func ExampleFiles_PutTar() {
	dir := project("f", "")
	defer os.RemoveAll(dir)
	files, err := sandbox.OpenFiles(dir, sandbox.FileLimits{})
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "../../etc/cron.d/job", Mode: 0o644}); err != nil {
		log.Fatal(err)
	}
	_, err = files.PutTar(context.Background(), ".", &archive)
	fmt.Println(err)
	// Output: sandbox: "../../etc/cron.d/job": not in its shortest form, or leads upwards
}

func ExampleSession_Files() {
	ctx := context.Background()
	s, err := sandbox.NewSession(ctx, sandbox.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if err := s.PutFile(ctx, "in", strings.NewReader("b\na\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	if _, err := s.Exec(ctx, "sort in > /tmp/out"); err != nil {
		log.Fatal(err)
	}
	tmp, err := s.Files(ctx, "/tmp", sandbox.FileLimits{})
	if err != nil {
		log.Fatal(err)
	}
	defer tmp.Close()
	s.Close() // the files are there until tmp is closed
	r, _, err := tmp.GetFile("out")
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	fmt.Printf("%q %v\n", b, err)
	// Output: "a\nb\n" <nil>
}

func ExampleOverlay() {
	ctx := context.Background()
	dir := project("main.go", "package main\n")
	defer os.RemoveAll(dir)
	o, err := sandbox.NewOverlay(dir, sandbox.OverlayOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer o.Close()
	c := sandbox.Config{Overlay: o, Protect: sandbox.DefaultProtect()}
	if _, err := sandbox.Run(ctx, c, "echo 'func main() {}' >> main.go; mkdir doc; echo x > doc/x"); err != nil {
		log.Fatal(err)
	}
	changes, err := o.Diff(ctx)
	for _, change := range changes {
		fmt.Println(change.Kind, change.Path, change.Size)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "main.go"))
	fmt.Printf("%q %v\n", b, err)
	_, err = o.Commit(ctx)
	b, _ = os.ReadFile(filepath.Join(dir, "main.go"))
	fmt.Printf("%q %v\n", b, err)
	// Output:
	// added doc 0
	// added doc/x 2
	// modified main.go 28
	// "package main\n" <nil>
	// "package main\nfunc main() {}\n" <nil>
}

func ExampleDefaultProtect() {
	dir := project(".bashrc", "# mine\n")
	defer os.RemoveAll(dir)
	c := sandbox.Config{Workspace: dir, Protect: sandbox.DefaultProtect()}
	r, err := sandbox.Run(context.Background(), c, "echo evil >> .bashrc; rm -f .bashrc; echo evil > .envrc")
	b, _ := os.ReadFile(filepath.Join(dir, ".bashrc"))
	fmt.Printf("%q %v %v\n", b, r.ProtectViolations, err)
	// Output: "# mine\n" [.envrc] <nil>
}

func ExampleRootFromTar() {
	dir := project("f", "")
	defer os.RemoveAll(dir)
	var archive bytes.Buffer // docker export CONTAINER
	w := tar.NewWriter(&archive)
	for _, h := range []*tar.Header{
		{Name: "usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "/usr/bin"},
		{Name: "dev/null", Typeflag: tar.TypeChar, Mode: 0o666}, {Name: "usr/bin/su", Mode: 0o4755},
	} {
		if err := w.WriteHeader(h); err != nil {
			log.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	report, err := sandbox.RootFromTar(context.Background(), &archive, root, sandbox.FileLimits{})
	if err != nil {
		log.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(root, "usr/bin/su"))
	fmt.Println(report.Entries, report.Skipped, st.Mode(), err)
	// Output: 3 [sandbox: "dev/null": a device or pipe] -rwxr-xr-x <nil>
}
