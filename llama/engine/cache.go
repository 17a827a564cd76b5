package engine

// CacheParams says what stays of requests that have ended, for later ones whose prompts begin alike: a conversation that
// goes on is not read again. While others run, it is kept in main memory, where it slows none of them. Requests that
// run together compute their common beginning once in any case with LayoutUnified and a plain cache; with LayoutStreams, a sliding
// window or a recurrent state by way of HostBytes. Only requests of one Request.CacheScope and with the same Adapters share
// anything. Usage.Cached tells how much a request had from others.
type CacheParams struct {
	// HostBytes is the most main memory for it, with what waits to be written to Dir; what was not used for longest goes first.
	// 0 = 1 GiB; -1 = nothing stays. One token takes 22 kB with the default model. The garbage collector may hold what was
	// dropped for a while.
	HostBytes int64
	// Dir is a directory where it also outlives the process: what later processes with the same model file, llama.cpp and
	// Params find there they do not compute. It is written when it leaves the context, and by Close, which waits for that (with
	// Isolated 5 minutes at most); what a slow disk does not take before HostBytes is full is lost, and logged. "" = none.
	// Whoever can write to it can crash the process, or make it say what they want: it must belong to this user, and others
	// must not be able to write to it. It holds the prompts as they are.
	Dir string
	// DirBytes is the most that Dir holds; what was not used for longest goes first. 0 = 4 GiB.
	DirBytes int64
}
