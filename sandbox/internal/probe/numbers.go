//go:build linux

package main

import (
	"fmt"
	"strconv"
)

func init() {
	// numbers makes system calls by number, their arguments zero, and prints what each gives.
	register("numbers", func(args []string) error {
		return inThread(func() error {
			for _, a := range args {
				n, err := strconv.Atoi(a)
				if err != nil {
					return err
				}
				fmt.Printf("%d %s\n", n, outcome(raw(uintptr(n))))
			}
			return nil
		})
	})
}
