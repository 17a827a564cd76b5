#pragma once

#include "shim_internal.h"

#include "llama.h"

namespace lm {

// Samples from the logits at index; throws. Does not accept.
llama_token sample(lm_sampler * s, llama_context * ctx, int32_t index);

// The log-probabilities of token and, where n > 1, of the n - 1 likeliest tokens, best first.
void logprobs(const float * logits, int32_t n_vocab, llama_token token, int32_t n, lm_prob * out);

} // namespace lm
