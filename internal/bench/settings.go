package main

import (
	"strconv"
	"strings"
)

// oursName is the setting that goals are about: what a user gets who says nothing.
const oursName = "lm-sandbox"

func ours(name string, args ...string) setting {
	return setting{
		name:   name,
		argv:   append([]string{"bin/lm-sandbox", "serve", "--model", "default"}, args...),
		listen: func(port string) []string { return []string{"--addr", "127.0.0.1:" + port} },
	}
}

// llamaServer is one of the same tree with these arguments.
func (b *bench) llamaServer(args string) setting {
	return setting{
		name:   "llama-server " + args,
		argv:   append([]string{"bin/peers/llama-server", "-m", b.model, "-t", strconv.Itoa(b.threads)}, strings.Fields(args)...),
		listen: func(port string) []string { return []string{"--host", "127.0.0.1", "--port", port} },
	}
}

// crowdSettings are those of the loads of 16 clients: each of llama-server's is good
// at something.
func (b *bench) crowdSettings() []setting {
	return []setting{
		ours(oursName),
		b.llamaServer("-np 1 -c 8192"),
		b.llamaServer("-c 8192"),
		b.llamaServer("-np 4 -c 16384 -b 256"),
		b.llamaServer("-np 16 -c 32768 -b 64"),
		b.llamaServer("-np 16 -c 32768"),
	}
}
