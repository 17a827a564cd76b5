#pragma once

#include "shim_internal.h"

#include "llama.h"

namespace lm {

// Samples from the logits at index; throws. Does not accept.
llama_token sample(lm_sampler * s, llama_context * ctx, int32_t index);

} // namespace lm
