package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptCommands are the commands that the scripts have besides testscript's own.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"json":  scriptJSON,
	"exits": scriptExits,
	"files": scriptFiles,
	"serve": scriptServe,
	"end":   scriptEnd,
	"http":  scriptHTTP,
}

// scriptJSON is "json FILE PATH VALUE": the field at PATH (dots between names) of the
// object in FILE ("stdout" is that of the last command) is the JSON value VALUE.
// VALUE "*" takes any; "! json FILE PATH" wants the field absent.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 && (!neg || len(args) != 2) {
		ts.Fatalf("usage: json FILE PATH VALUE, or ! json FILE PATH")
	}
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &value))
	for _, name := range strings.Split(args[1], ".") {
		object, ok := value.(map[string]any)
		if !ok {
			ts.Fatalf("%s: no object holds %q", args[1], name)
		}
		if value, ok = object[name]; !ok {
			if neg && len(args) == 2 {
				return
			}
			ts.Fatalf("%s: no field %q", args[1], name)
		}
	}
	if neg && len(args) == 2 {
		ts.Fatalf("%s is there", args[1])
	}
	if args[2] == "*" {
		return
	}
	var want any
	ts.Check(json.Unmarshal([]byte(args[2]), &want))
	if reflect.DeepEqual(value, want) == neg {
		ts.Fatalf("%s is %#v, should it be %#v: %v", args[1], value, want, !neg)
	}
}

// scriptExits is "exits CODE NAME [ARG…]": running the command gives that exit code.
// Its output is then what stdout and stderr look at.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE NAME [ARG...]")
	}
	code := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		code = strings.TrimPrefix(fmt.Sprint(err), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// scriptFiles is "files": it serves the script's directory over HTTP and sets $URL.
func scriptFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: files")
	}
	server := httptest.NewServer(http.FileServer(http.Dir(ts.Getenv("WORK"))))
	ts.Defer(server.Close)
	ts.Setenv("URL", server.URL)
}
