package hub

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv makes the test binary a process that pulls the reference in it, for tests that need a process of its own.
const childEnv = "HUB_TEST_PULL"

func TestMain(m *testing.M) {
	if ref := os.Getenv(childEnv); ref != "" {
		os.Exit(child(ref))
	}
	// No test is to see the user's hub settings.
	for _, v := range []string{"HF_TOKEN", "HF_ENDPOINT"} {
		if err := os.Unsetenv(v); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

func child(ref string) int {
	m, err := Pull(context.Background(), ref, Options{Dir: os.Getenv("HUB_TEST_DIR")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(m.Path)
	return 0
}
