package main

import (
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/gpu"
)

func main() {
	library, err := gpu.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer library.Close()
	devices, err := library.Devices()
	fmt.Println("gpu:", len(devices), "devices", err)
}
