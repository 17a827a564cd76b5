package llamacpp

// Edit is a change to one source file of the tree, in the library only: peers are
// what the release is. It can go once the release does as much itself.
type Edit struct {
	File    string // in the tree
	Library string // of Libraries, by its file name
	Before  string // occurs once in the file
	Insert  string // goes before it
}

// Edits are all changes. Both are about cells that a token does not see, which is
// most of a cache that many sequences share: what is masked out is -inf, 0xFC00 in
// half precision, and need not be converted and scaled to be known as such. Of a step
// of 256 tokens of one prompt among ten other ones that was a tenth of the time.
var Edits = []Edit{
	{
		File: "ggml/src/ggml-cpu/ops.cpp", Library: "libggml-cpu.a",
		Before: "            const float mv = mp ? slope*GGML_CPU_FP16_TO_FP32(mp[ic]) : 0.0f;\n",
		Insert: `            if (mp && mp[ic] == 0xFC00) {
                continue;
            }
`,
	},
	{
		File: "ggml/src/ggml-cpu/ops.cpp", Library: "libggml-cpu.a",
		Before: "                bool can_skip = true;\n",
		Insert: `                const char * rows   = (const char *) mask->data + iq1*mask->nb[1] + (iq2%mask->ne[2])*mask->nb[2] + (iq3%mask->ne[3])*mask->nb[3];
                bool         unseen = true;
                for (int tq = 0; unseen && tq < tile_rows; tq++) {
                    const ggml_fp16_t * row  = (const ggml_fp16_t *) (rows + tq*mask->nb[1]) + ic;
                    int                 seen = 0;
                    for (int tk = 0; tk < kv_tile; tk++) {
                        seen |= row[tk] ^ 0xFC00;
                    }
                    unseen = seen == 0;
                }
                if (unseen) {
                    continue;
                }
`,
	},
}
