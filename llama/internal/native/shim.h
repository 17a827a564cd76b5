// The C interface between Go and llama.cpp.
//
// Rules of this border:
//   - no C++ exception leaves a function: each one returns a code and, where it fails, a message
//     in *err that the caller frees with lm_free;
//   - no pointer to Go memory is kept after a function returned;
//   - strings carry their length and may hold NUL bytes, except where a name says c_str;
//   - arguments were checked on the Go side wherever llama.cpp would abort the process.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(LM_NATIVE_KEY) || !defined(LM_NATIVE_TREE)
#error "llama.cpp is not built: run 'make native' in a clone, or 'go run github.com/lm-sandbox/lm-sandbox/cmd/llamacpp@VERSION install' in your module"
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LM_OK            = 0,
    LM_ERR           = -1000, // an exception or a refusal; the text says which
    LM_ERR_MEMORY    = -1001, // memory could not be allocated
    LM_ERR_CANCELLED = -1002, // a callback asked to stop
    LM_ERR_GRAMMAR   = -1003, // a grammar cannot be parsed or has no continuation
    LM_ERR_BUDGET    = -1005, // a grammar takes too long (-1004 is Go's own)
    LM_ERR_UNSUPPORTED = -1006, // the system refuses what was asked for
};

typedef struct lm_context  lm_context;
typedef struct lm_sampler  lm_sampler;
typedef struct lm_chat     lm_chat;
typedef struct lm_parser   lm_parser;
typedef struct lm_plan     lm_plan;
struct llama_model;

// ---- process (shim_process.cpp)

void         lm_free(void * p);
int32_t      lm_init(char ** err);
const char * lm_version_c_str(void); // of the linked library
const char * lm_tree_c_str(void);    // git tree that the headers and the library were made of
const char * lm_system_info_c_str(void);
// Physical (performance) cores, as llama.cpp's tools choose their thread count.
int32_t      lm_n_threads_default(void);
// level: the lowest ggml_log_level that reaches Go; above GGML_LOG_LEVEL_ERROR = silent.
void         lm_log_level(int32_t level);

typedef struct {
    char     name[64];
    char     description[128];
    char     type[16];
    char     id[64]; // PCI address of a GPU
    uint64_t memory_free;
    uint64_t memory_total;
} lm_device;
int32_t lm_devices(lm_device * out, int32_t cap);

// ---- model (shim_model.cpp)

typedef struct {
    const lm_plan * plan; // null = llama.cpp's own placement
    int32_t   load_mode;
    bool      check_tensors;
    bool      vocab_only; // no tensors: for tokens, templates and grammars
    uintptr_t progress; // handle of the Go callback; 0 = none
} lm_model_params;

typedef struct {
    uint64_t size, n_params;
    int32_t  n_ctx_train, n_embd, n_embd_out, n_cls_out, n_layer, n_head, n_swa;
    int32_t  rope_type, vocab_type, n_tokens;
    int32_t  bos, eos, eot, nl, sep;
    bool     has_encoder, has_decoder, is_recurrent, is_hybrid, is_diffusion;
    bool     add_bos, add_eos, add_sep;
    char     desc[128];
} lm_model_info;

int32_t lm_model_load(const char * path_c_str, const lm_model_params * p, struct llama_model ** out, char ** err);
void    lm_model_free(struct llama_model * m);
void    lm_model_get_info(const struct llama_model * m, lm_model_info * out);
// All metadata as NUL separated key, value, key, value…; *n bytes.
int32_t lm_model_meta(const struct llama_model * m, char ** out, size_t * n, char ** err);

// ---- vocabulary (shim_vocab.cpp)

enum { LM_TOKEN_EOG = 1, LM_TOKEN_CONTROL = 2, LM_TOKEN_HIDDEN = 4, LM_TOKEN_SPECIAL = 8, LM_TOKEN_SPLITS = 16 };

// Every token's text (*pieces, special tokens rendered), the end offset of each (*ends, n_tokens entries) and its flags.
int32_t lm_vocab_pieces(const struct llama_model * m, char ** pieces, uint32_t ** ends, uint8_t ** flags, char ** err);
// The raw vocabulary entry of one token.
int32_t lm_vocab_text(const struct llama_model * m, int32_t token, char ** out, size_t * n, char ** err);
int32_t lm_tokenize(const struct llama_model * m, const char * text, size_t n, bool add_special, bool parse_special,
                    int32_t ** out, size_t * n_out, char ** err);
int32_t lm_detokenize(const struct llama_model * m, const int32_t * tokens, size_t n, bool remove_special, bool unparse_special,
                      char ** out, size_t * n_out, char ** err);

// ---- context (shim_context.cpp, shim_decode.cpp, shim_team.cpp)

enum { LM_CPUS = 512 }; // GGML_MAX_N_THREADS

typedef struct {
    uint32_t n_ctx, n_batch, n_ubatch, n_seq_max, n_outputs_max;
    int32_t  n_threads, n_threads_batch;
    int32_t  flash_attn; // llama_flash_attn_type
    int32_t  type_k, type_v; // ggml_type
    bool     kv_unified, swa_full, offload_kqv, op_offload;
    int32_t  done_fd; // open until the context is freed
    bool     embeddings;
    int32_t  pooling_type; // llama_pooling_type

    // the threads that compute on the CPU
    bool    cpumask[LM_CPUS]; // none = those of the process
    bool    strict_cpu;
    int32_t priority; // ggml_sched_priority
} lm_context_params;

typedef struct {
    uint32_t n_ctx, n_ctx_seq, n_batch, n_ubatch, n_seq_max;
    bool     has_memory, can_shift;
} lm_context_info;

// The logarithm of a token's probability by the logits as the model gave them (not by what samplers make of them).
typedef struct {
    int32_t token;
    float   logprob;
} lm_prob;

// One row to sample after a decode. The n_draft tokens behind index in the batch are guesses: as long as the sampled token is
// the guessed one, the next one is sampled behind it. Guesses that were not sampled are taken out of memory again. The rest
// are results: the tokens, one of each step or guess, which stay with the context until its next decode, and the failure that
// ended the row.
typedef struct {
    lm_sampler    * sampler;
    int32_t         index;
    int32_t         n_draft;
    int32_t         n_tokens;
    const int32_t * tokens;
    int32_t         n_probs; // entries for each token: 0, or itself and the n_probs - 1 likeliest ones
    const lm_prob * probs;
    int32_t         code;
    char          * err;
} lm_row;

int32_t lm_context_new(struct llama_model * m, const lm_context_params * p, lm_context ** out, lm_context_info * info, char ** err);
void    lm_context_free(lm_context * c);
void    lm_context_abort(lm_context * c, bool on);
// Nanoseconds that the context has spent in llama_decode and in sampling; any thread.
void    lm_context_times(const lm_context * c, int64_t * decode, int64_t * sample);
// Ends a decode of several steps with the one in flight, until it is switched off.
void    lm_context_hold(lm_context * c, bool on);
// Begins llama_decode of a batch in flat arrays of n entries, each token in exactly one sequence; then for each row: sample
// at row.index with row.sampler and accept the token into it. Where every token has its row, that is done up to n_steps times:
// the sampled tokens are the next batch, until one of them ends the generation, a row fails, or lm_context_hold. The arrays
// are copied. 0 steps mean llama_encode, without rows. All of it runs on the context's own thread, which writes one byte to done_fd when it is done; until then, of the
// functions here only lm_context_abort and lm_context_hold may be called with the context or the samplers.
int32_t lm_decode_start(lm_context * c, const int32_t * token, const int32_t * pos, const int32_t * seq, const int8_t * logits, int32_t n,
                        const lm_row * rows, int32_t n_rows, int32_t n_steps);
// After that byte: the result of the first llama_decode, and the rows' results. Of a later one that failed nothing is said.
int32_t lm_decode_finish(lm_context * c, lm_row * rows, int32_t n_rows);
// What the last failed decode said; valid until the next one. (An out parameter would cost Go an allocation per step.)
const char * lm_decode_error_c_str(const lm_context * c);
int32_t lm_sample(lm_context * c, lm_sampler * s, int32_t index, int32_t * token, char ** err);
// Samples and accepts one token, as a row of a decode does; probs has n_probs entries.
int32_t lm_sample_row(lm_context * c, lm_sampler * s, int32_t index, int32_t * token, int32_t n_probs, lm_prob * probs, char ** err);
int32_t lm_logits(lm_context * c, int32_t index, float * out, int32_t n_vocab, char ** err);
// The context's own logits, which later samples read; valid until the next decode.
int32_t lm_logits_at(lm_context * c, int32_t index, float ** out, char ** err);

// ---- embeddings (shim_embed.cpp)

// The embeddings of n tokens of the last decode from batch index first on: n_embd floats of each, n_embd_out of the model.
int32_t lm_embeddings(lm_context * c, int32_t first, int32_t n, float * out, int32_t n_embd, char ** err);
// The pooled embedding of a sequence of the last decode: n floats, n_embd_out, or n_cls_out where the context ranks.
int32_t lm_embedding_seq(lm_context * c, int32_t seq, float * out, int32_t n, char ** err);

// Memory operations: false when the memory refuses, or could not allocate.
bool lm_memory_clear(lm_context * c, bool data);
bool lm_memory_seq_rm(lm_context * c, int32_t seq, int32_t p0, int32_t p1);
bool lm_memory_seq_cp(lm_context * c, int32_t src, int32_t dst, int32_t p0, int32_t p1);
bool lm_memory_seq_keep(lm_context * c, int32_t seq);
bool lm_memory_seq_add(lm_context * c, int32_t seq, int32_t p0, int32_t p1, int32_t delta);
bool lm_memory_seq_div(lm_context * c, int32_t seq, int32_t p0, int32_t p1, int32_t d);
void lm_memory_pos(lm_context * c, int32_t seq, int32_t * min, int32_t * max);

// What the memory holds of one sequence, as bytes. flags: LLAMA_STATE_SEQ_FLAGS_*. 0 = it cannot be had; a set that failed
// may leave a part behind.
size_t lm_state_seq_size(lm_context * c, int32_t seq, uint32_t flags);
size_t lm_state_seq_get(lm_context * c, int32_t seq, uint8_t * dst, size_t n, uint32_t flags);
size_t lm_state_seq_set(lm_context * c, int32_t seq, const uint8_t * src, size_t n, uint32_t flags);

// ---- placement and memory of a model and a context (shim_fit.cpp)

typedef struct {
    int32_t n_layer, n_ctx_train;
    bool    has_encoder;
    bool    can_map; // every device can take its tensors from a mapped file
} lm_plan_info;

typedef struct {
    lm_device device;
    uint64_t  weights, mappable, context, compute; // mappable: weights that may stay in a mapped file
} lm_device_memory;

typedef struct {
    int32_t n_gpu_layers; // negative = all, 0 = use no GPU
    int32_t split_mode;   // llama_split_mode
    int32_t main_gpu;
} lm_placement;

// devices are the names of those to use, each ended by a NUL; none = all. tensor_split has a share for each of them; none =
// as memory allows. arch and n_vocab are the file's, 0 = it has no vocabulary. One goroutine at a time uses a plan, except
// that any number of loads may.
int32_t lm_plan_new(const char * path_c_str, const lm_placement * where, const char * devices, size_t n_devices, const float * tensor_split,
                    size_t n_split, const char * arch_c_str, int64_t n_vocab, lm_plan ** out, char ** err);
void    lm_plan_free(lm_plan * p);
// Loads the model without its tensors' data, for lm_plan_measure.
int32_t lm_plan_open_model(lm_plan * p, lm_plan_info * out, char ** err);
void    lm_plan_close_model(lm_plan * p);
// What the model and a context take of each of the model's devices, and last of main memory.
int32_t lm_plan_measure(lm_plan * p, const lm_context_params * cp, lm_device_memory * out, int32_t cap, int32_t * n, char ** err);
// Lowers n_gpu_layers, if all, and cp->n_ctx, if 0, until margins are left free on each device; closes the model. Not
// while any other thread is in llama.cpp's loading functions: it swaps the process's logger.
int32_t lm_plan_fit(lm_plan * p, lm_context_params * cp, const uint64_t * margins, int32_t n_margins, uint32_t n_ctx_min,
                    int32_t * n_gpu_layers, char ** err);

// ---- adapters and the whole state (shim_adapter.cpp)

struct llama_adapter_lora;
// Not while another thread computes with the model: its set of adapters is not locked. The same for free.
int32_t lm_adapter_load(struct llama_model * m, const char * path_c_str, struct llama_adapter_lora ** out, char ** err);
void    lm_adapter_free(struct llama_adapter_lora * a);
int32_t lm_context_set_adapters(lm_context * c, struct llama_adapter_lora ** adapters, float * scales, size_t n, char ** err);

// All that the memory holds, as bytes. 0 = it cannot be had; a set that failed may leave a part behind.
size_t lm_state_size(lm_context * c);
size_t lm_state_get(lm_context * c, uint8_t * dst, size_t n);
size_t lm_state_set(lm_context * c, const uint8_t * src, size_t n);

// ---- quantising (shim_quantize.cpp)

// How many weights of a ggml_type make a block, and its bytes; 0 and 0 for a number that is no type.
void lm_type_size(uint32_t type, uint64_t * block, uint64_t * bytes);

typedef struct {
    int32_t   ftype; // llama_ftype
    int32_t   n_threads;
    bool      allow_requantize, pure, quantize_output_tensor;
    uintptr_t progress; // handle of the Go callback, called before each tensor
} lm_quantize_params;

int32_t lm_quantize(const char * in_c_str, const char * out_c_str, const lm_quantize_params * p, char ** err);

// ---- sampler and grammar (shim_sampler.cpp)

enum { LM_GRAMMAR_USER = 0, LM_GRAMMAR_SCHEMA = 1, LM_GRAMMAR_TOOLS = 2 };

typedef struct {
    int32_t      type; // common_grammar_trigger_type
    int32_t      token;
    const char * value;
    size_t       n_value;
} lm_trigger;

typedef struct {
    uint32_t seed;
    int32_t  top_k, penalty_last_n;
    int32_t  dry_allowed_length, dry_penalty_last_n, mirostat, min_keep;
    float    temp, top_p, min_p, typ_p, top_n_sigma, xtc_probability, xtc_threshold;
    float    dynatemp_range, dynatemp_exponent;
    float    penalty_repeat, penalty_freq, penalty_present;
    float    dry_multiplier, dry_base;
    float    mirostat_tau, mirostat_eta;
    float    adaptive_target, adaptive_decay;

    const char * samplers; // in their order, as common_sampler_type_to_chr names them
    size_t       n_samplers;
    const char * dry_breakers; // NUL separated
    size_t       n_dry_breakers;

    const int32_t * bias_token; // ascending
    const float   * bias;
    size_t          n_bias;

    const char * grammar;
    size_t       n_grammar;
    int32_t      grammar_kind;
    bool         grammar_lazy;
    const char * generation_prompt;
    size_t       n_generation_prompt;
    const char * thinking_start;
    size_t       n_thinking_start;
    const char * thinking_ends; // NUL separated
    size_t       n_thinking_ends;
    int32_t      thinking_budget; // most tokens of thinking; -1 = any number
    const char * thinking_message; // said where the budget ends
    size_t       n_thinking_message;

    const lm_trigger * triggers;
    size_t             n_triggers;
    const int32_t    * preserved;
    size_t             n_preserved;
} lm_sampler_params;

int32_t lm_sampler_new(const struct llama_model * m, const lm_sampler_params * p, lm_sampler ** out, char ** err);
// llama.cpp's own defaults of common_params_sampling; texts stay its own.
int32_t lm_sampler_defaults(lm_sampler_params * out);
void    lm_sampler_free(lm_sampler * s);
// Seconds of processor time that a grammar's token has taken so far in the call in flight; 0 where there is none. Any thread.
double  lm_sampler_working(const lm_sampler * s);
int32_t lm_sampler_clone(const lm_sampler * s, lm_sampler ** out, char ** err);
int32_t lm_sampler_reset(lm_sampler * s, char ** err);
int32_t lm_sampler_accept(lm_sampler * s, const int32_t * tokens, size_t n, bool is_generated, char ** err);

int32_t lm_grammar_check(const struct llama_model * m, const char * gbnf, size_t n, char ** err);
int32_t lm_schema_to_grammar(const char * schema, size_t n, char ** out, size_t * n_out, char ** err);

// ---- chat (shim_chat.cpp); requests and results are JSON

int32_t lm_chat_builtins(char ** out, size_t * n_out, char ** err); // names, each followed by a line break
int32_t lm_chat_new(const struct llama_model * m, const char * tmpl, size_t n, lm_chat ** out, char ** err);
void    lm_chat_free(lm_chat * c);
int32_t lm_chat_caps(const lm_chat * c, char ** out, size_t * n_out, char ** err);
int32_t lm_chat_apply(const lm_chat * c, const char * request, size_t n, char ** out, size_t * n_out, char ** err);
int32_t lm_parser_new(const char * params, size_t n, lm_parser ** out, char ** err);
void    lm_parser_free(lm_parser * p);
int32_t lm_parser_parse(const lm_parser * p, const char * text, size_t n, bool partial, char ** out, size_t * n_out, char ** err);

#ifdef __cplusplus
}
#endif
