package llamacpp

import _ "embed"

// Edit is a change to one source file of the tree, in the library only: peers are
// what the release is. It can go once the release does as much itself.
type Edit struct {
	File    string // in the tree
	Library string // of Libraries, by its file name
	Inserts []Insert
}

// Insert is text that goes before text that occurs once in the file.
type Insert struct{ Before, Text string }

var (
	//go:embed edits/mul_mat_q4_1.c
	mulMatQ41 string
	//go:embed edits/clear_buffer.c
	clearBuffer string
)

// Edits are all changes, one for each file.
var Edits = []Edit{maskedCells, q41, untouched, depth}

// maskedCells is about cells that a token does not see, which is most of a cache that
// many sequences share: what is masked out is -inf, 0xFC00 in half precision, and need
// not be converted and scaled to be known as such. Of 16 unlike prompts at once that
// was a tenth of the time.
var maskedCells = Edit{File: "ggml/src/ggml-cpu/ops.cpp", Library: "libggml-cpu.a", Inserts: []Insert{
	{
		Before: "            const float mv = mp ? slope*GGML_CPU_FP16_TO_FP32(mp[ic]) : 0.0f;\n",
		Text: `            if (mp && mp[ic] == 0xFC00) {
                continue;
            }
`,
	},
	{
		Before: "                bool can_skip = true;\n",
		Text: `                const char * rows   = (const char *) mask->data + iq1*mask->nb[1] + (iq2%mask->ne[2])*mask->nb[2] + (iq3%mask->ne[3])*mask->nb[3];
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
}}

// q41 multiplies Q4_1 matrices, for which the tree has no more than dot products.
var q41 = Edit{File: "ggml/src/ggml-cpu/ggml-cpu.c", Library: "libggml-cpu.a", Inserts: []Insert{
	{Before: "void ggml_compute_forward_mul_mat(\n", Text: mulMatQ41},
	{
		Before: "    // IQ panel gemm (see iqp.h) - must come after the barrier above",
		Text: `    if (lm_mul_mat_q4_1(params, dst)) {
        return;
    }

`,
	},
}}

// untouched clears memory that ggml has from malloc, which on Linux is private and
// anonymous, without touching it.
var untouched = Edit{File: "ggml/src/ggml-backend.cpp", Library: "libggml-base.a", Inserts: []Insert{
	{Before: "static void ggml_backend_cpu_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {\n", Text: clearBuffer},
	{
		Before: "    memset(buffer->context, value, buffer->size);\n",
		Text: `    if (value == 0 && buffer->iface.free_buffer == ggml_backend_cpu_buffer_free_buffer && lm_clear((char *) buffer->context, buffer->size)) {
        return;
    }
`,
	},
}}

// depth bounds the recursion of the parser of answers, which a model's text or a message that is continued would else
// drive through the end of the stack. It counts calls: a level of JSON is 14 of them and 3 KB.
var depth = Edit{File: "common/peg-parser.cpp", Library: "libllama-common.a", Inserts: []Insert{{
	Before: "    // Execute parser\n",
	Text: `    struct lm_level {
        int & depth;
        ~lm_level() { depth--; }
    } lm_level{ctx.parse_depth};
    if (++ctx.parse_depth > 8000) {
        throw std::runtime_error("nested too deeply");
    }
`,
}}}
