package main

import (
	"context"
	"fmt"
	"log"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func main() {
	res, err := sandbox.Run(context.Background(), sandbox.Config{}, "echo uid $(id -u)")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s%s", res.Stdout, res.Stderr)
}
