package engine

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	RunWorker()
	if path := os.Getenv("ENGINE_TEST_PARENT"); path != "" {
		parent(path)
	}
	goleak.VerifyTestMain(m)
}

// parent is the program of TestWorkerEndsWithItsParent: it tells the ids of its worker
// and of that one's compiler, and waits to be killed.
func parent(path string) {
	e, err := Open(context.Background(), path, Params{Isolated: true, NCtx: 64, NThreads: 1})
	if err != nil {
		panic(err)
	}
	worker := e.worker.now.process.Pid
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", worker))
	if err != nil {
		panic(err)
	}
	fmt.Println(worker)
	for _, task := range tasks {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", worker, task.Name()))
		if err != nil {
			panic(err)
		}
		if len(children) > 0 {
			fmt.Println(strings.TrimSpace(string(children)))
		}
	}
	select {}
}
