//go:build long

package llama_test

import "testing"

// As TestOracleRender, with thinking on, off and as the template does it, everywhere.
func TestOracleRenderThinking(t *testing.T) {
	on, off := true, false
	compareRenderings(t, func(string) []*bool { return []*bool{nil, &on, &off} })
}

// As TestControlTokensOfEveryFamily, with every part of a request by itself.
func TestControlTokensInEveryPlace(t *testing.T) { attackFamilies(t, places) }
