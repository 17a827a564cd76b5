package engine

// CacheParams says what stays of requests that have ended, for later ones whose prompts begin alike: a conversation that
// goes on is not read again. While others run, it is kept in main memory, where it slows none of them. Requests
// that run together share their beginnings in any case.
type CacheParams struct {
	// HostBytes is the most main memory for it; what was not used for longest goes first. 0 = 1 GiB; -1 = nothing stays.
	// One token takes 22 kB with the default model. The garbage collector may hold what was dropped for a while.
	HostBytes int64
}
