#pragma once

#include "shim_internal.h"

#include "llama.h"

namespace lm {

// Samples from the logits at index, which are given, too; throws. Does not accept.
llama_token sample(lm_sampler * s, llama_context * ctx, int32_t index, const float * logits);
// Whether sample looks at the logits only: then any thread may call it while others sample elsewhere.
bool needs_no_context(const lm_sampler * s);
// Whether it takes longer than to hand it to another thread.
bool worth_a_thread(const lm_sampler * s);

// The log-probabilities of token and, where n > 1, of the n - 1 likeliest tokens, best first.
void logprobs(const float * logits, int32_t n_vocab, llama_token token, int32_t n, lm_prob * out);

} // namespace lm
