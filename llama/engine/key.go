package engine

// key says which requests can share what is in memory: those of one scope, computed with the same weights.
type key struct {
	scope    string // the caller's
	adapters string // with their scales, in a form that is the same for the same ones; "" = none
}
