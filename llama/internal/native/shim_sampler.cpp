#include "shim_sampler.h"

#include "common.h"
#include "json-schema-to-grammar.h"
#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <mutex>
#include <pthread.h>
#include <memory>
#include <regex>

struct lm_sampler {
    const llama_model *    model;
    common_params_sampling params; // kept for reset: common_sampler_reset leaves the grammar where it was
    common_sampler_ptr     smpl;
    bool                   argmax = false; // nothing but the likeliest token is asked for
    bool                   plain  = false; // neither a grammar nor a budget for reasoning: common_sampler is its chain
    std::vector<llama_token_data> cur;     // of a plain one: the tokens that it samples from
    // The grammar refused a token: its parse stacks are gone, and llama.cpp would abort the process at the next look at them.
    bool broken = false;
};

namespace {

struct llama_sampler_deleter {
    void operator()(llama_sampler * s) { llama_sampler_free(s); }
};

using grammar_ptr = std::unique_ptr<llama_sampler, llama_sampler_deleter>;

grammar_ptr check_grammar(const llama_model * m, const std::string & gbnf) {
    lm::log_capture log;
    grammar_ptr     g(llama_sampler_init_grammar(llama_model_get_vocab(m), gbnf.c_str(), "root"));
    if (g == nullptr) {
        throw lm::grammar_error(log.text("failed to parse grammar"));
    }
    return g;
}

// The texts of a list that has a NUL after each.
std::vector<std::string> split(const char * list, size_t n) {
    std::vector<std::string> out;
    for (size_t i = 0; i < n; i += out.back().size() + 1) {
        out.emplace_back(list + i);
    }
    return out;
}

// What one token may cost: an ambiguous grammar gets more expensive with every token, and nothing stops llama.cpp within a call.
// The thread's own time does not depend on what else the machine does. While it lives, other threads can ask for what was used.
class token_budget {
  public:
    explicit token_budget(lm_sampler * s) : s(s) {
        if (s->params.grammar.empty()) { // the clock is a system call
            return;
        }
#ifdef __linux__
        pthread_getcpuclockid(pthread_self(), &clock);
#endif
        begin = now();
        const std::lock_guard<std::mutex> lock(mutex);
        all.push_back(this);
    }
    ~token_budget() {
        if (!s->params.grammar.empty()) {
            const std::lock_guard<std::mutex> lock(mutex);
            all.erase(std::find(all.begin(), all.end(), this));
        }
    }
    token_budget(const token_budget &) = delete;
    token_budget & operator=(const token_budget &) = delete;

    void check() {
        if (!s->params.grammar.empty() && now() - begin > limit) {
            s->broken = true;
            throw lm::grammar_budget("the grammar is too ambiguous: it takes longer than 2 s of processor time for a token");
        }
    }
    static double working(const lm_sampler * s) {
        const std::lock_guard<std::mutex> lock(mutex);
        for (const token_budget * b : all) {
            if (b->s == s) {
                return b->now() - b->begin;
            }
        }
        return 0;
    }

  private:
    double now() const {
        struct timespec t;
        return clock_gettime(clock, &t) == 0 ? t.tv_sec + t.tv_nsec * 1e-9 : 0;
    }
    static constexpr double limit = 2.0;
    static std::mutex                  mutex;
    static std::vector<token_budget *> all;

    lm_sampler * s;
    clockid_t    clock = CLOCK_THREAD_CPUTIME_ID;
    double       begin = 0;
};

std::mutex                  token_budget::mutex;
std::vector<token_budget *> token_budget::all;

// What the prompt has of the answer already, which may be a message that is continued, passes through the grammar in
// common_sampler_init: that ends the process for an end of generation, and leaks where the grammar refuses a token. So a
// grammar of our own is asked first.
void check_beginning(lm_sampler * s, llama_sampler * grammar) {
    const common_params_sampling & p = s->params;
    if (grammar == nullptr || p.grammar_lazy || !common_grammar_needs_prefill(p.grammar) || p.generation_prompt.empty()) {
        return;
    }
    const llama_vocab * vocab  = llama_model_get_vocab(s->model);
    const llama_tokens  tokens = common_tokenize(vocab, p.generation_prompt, false, true);
    token_budget        budget(s); // of all: nobody waits for more
    for (size_t i = 0; i < tokens.size(); i++) {
        const std::string piece = common_token_to_piece(vocab, tokens[i], true);
        if (i == 0 && std::isspace(static_cast<unsigned char>(piece[0])) && !std::isspace(static_cast<unsigned char>(p.generation_prompt[0]))) {
            continue; // as there
        }
        if (llama_vocab_is_eog(vocab, tokens[i])) {
            throw lm::grammar_error("the answer's beginning, in the prompt, has the text of a token that ends it: " + piece);
        }
        try {
            llama_sampler_accept(grammar, tokens[i]);
        } catch (const std::bad_alloc &) {
            throw;
        } catch (const std::exception &) {
            throw lm::grammar_error("the grammar or schema refuses the answer's beginning, which is in the prompt, at: " + piece);
        }
        budget.check();
    }
}

common_sampler_ptr init(const llama_model * m, const common_params_sampling & params) {
    common_params_sampling p = params; // init may change it
    common_sampler_ptr     s(common_sampler_init(m, p));
    if (s == nullptr) {
        throw std::runtime_error("common_sampler_init failed");
    }
    return s;
}

common_sampler_type sampler_type(char c) {
    for (int i = 0; i <= COMMON_SAMPLER_TYPE_ADAPTIVE_P; i++) {
        if (common_sampler_type_to_chr(static_cast<common_sampler_type>(i)) == c) {
            return static_cast<common_sampler_type>(i);
        }
    }
    throw std::invalid_argument(std::string("no sampler is called ") + c);
}

bool does_something(const lm_sampler_params * p, common_sampler_type type) {
    switch (type) {
        case COMMON_SAMPLER_TYPE_PENALTIES:
            return p->penalty_last_n != 0 && (p->penalty_repeat != 1.0f || p->penalty_freq != 0.0f || p->penalty_present != 0.0f);
        case COMMON_SAMPLER_TYPE_DRY:         return p->dry_multiplier != 0.0f;
        case COMMON_SAMPLER_TYPE_TOP_N_SIGMA: return p->top_n_sigma > 0.0f;
        case COMMON_SAMPLER_TYPE_TOP_K:       return p->top_k > 0;
        case COMMON_SAMPLER_TYPE_TYPICAL_P:   return p->typ_p < 1.0f;
        case COMMON_SAMPLER_TYPE_TOP_P:       return p->top_p < 1.0f;
        case COMMON_SAMPLER_TYPE_MIN_P:       return p->min_p > 0.0f;
        case COMMON_SAMPLER_TYPE_XTC:         return p->xtc_probability > 0.0f;
        default:                              return true;
    }
}

// Sets the samplers that do something, in their order.
void set_chain(common_params_sampling & sp, const lm_sampler_params * p) {
    for (size_t i = 0; i < p->n_samplers; i++) {
        const common_sampler_type type = sampler_type(p->samplers[i]);
        if (does_something(p, type)) {
            sp.samplers.push_back(type);
        }
    }
    if (p->temp > 0.0f) {
        return;
    }
    const auto has = [&](common_sampler_type type) { return std::find(sp.samplers.begin(), sp.samplers.end(), type) != sp.samplers.end(); };
    sp.mirostat = 0;
    if (!has(COMMON_SAMPLER_TYPE_TEMPERATURE)) {
        sp.samplers.push_back(COMMON_SAMPLER_TYPE_TEMPERATURE);
    }
    if (has(COMMON_SAMPLER_TYPE_TYPICAL_P) || has(COMMON_SAMPLER_TYPE_XTC) || has(COMMON_SAMPLER_TYPE_INFILL) || has(COMMON_SAMPLER_TYPE_ADAPTIVE_P)) {
        return; // they may take the best token away
    }
    // the best token survives every filter: keep it alone, so that nothing else is sorted or normalised
    const auto penalises = [](common_sampler_type type) { return type == COMMON_SAMPLER_TYPE_PENALTIES || type == COMMON_SAMPLER_TYPE_DRY; };
    const auto filters   = std::find_if_not(sp.samplers.begin(), sp.samplers.end(), penalises);
    if (std::any_of(filters, sp.samplers.end(), penalises)) {
        return; // what is penalised after a filter depends on the filter
    }
    sp.top_k = 1;
    sp.samplers.erase(filters, sp.samplers.end());
    sp.samplers.push_back(COMMON_SAMPLER_TYPE_TOP_K);
    sp.samplers.push_back(COMMON_SAMPLER_TYPE_TEMPERATURE);
}

// Nothing but the likeliest token is asked for: neither penalties nor a grammar look at the others.
bool is_argmax(const common_params_sampling & p, const llama_vocab * vocab) {
    int32_t n_suppress = 0; // tokens that the model itself forbids: left to common_sampler
    llama_vocab_get_suppress_tokens(vocab, &n_suppress);
    return p.temp <= 0.0f && p.grammar.empty() && p.reasoning_budget_start.empty() && n_suppress == 0 && p.samplers.size() == 2 &&
           p.samplers[0] == COMMON_SAMPLER_TYPE_TOP_K && p.top_k == 1;
}

// Takes the first of the largest logits of [from, to) for the best where it is larger than that (NaN is not).
// First which block has it, by a reduction that compilers turn into vector instructions, then where in the block.
void take_max(const float * logits, int32_t from, int32_t to, llama_token & best, float & most) {
    constexpr int32_t lanes = 32, block = 1024;

    int32_t at = -1;
    for (int32_t i = from; i < to; i += block) {
        const int32_t end = std::min(to, i + block);
        float         lane[lanes];
        std::fill_n(lane, lanes, -INFINITY);
        int32_t j = i;
        for (; j + lanes <= end; j += lanes) {
            for (int32_t k = 0; k < lanes; k++) {
                lane[k] = logits[j + k] > lane[k] ? logits[j + k] : lane[k];
            }
        }
        for (; j < end; j++) {
            lane[0] = logits[j] > lane[0] ? logits[j] : lane[0];
        }
        const float here = *std::max_element(lane, lane + lanes);
        if (here > most) {
            most = here;
            at   = i;
        }
    }
    if (at >= 0) {
        best = std::find(logits + at, logits + to, most) - logits;
    }
}

// common_sampler would first write 12 bytes for every token of the vocabulary. The biases are in the order of their tokens.
llama_token argmax(const common_params_sampling & p, const float * logits, int32_t n_vocab) {
    llama_token best = LLAMA_TOKEN_NULL;
    float       most = -INFINITY;
    int32_t     from = 0;
    for (const llama_logit_bias & b : p.logit_bias) {
        take_max(logits, from, b.token, best, most);
        if (logits[b.token] + b.bias > most) {
            most = logits[b.token] + b.bias;
            best = b.token;
        }
        from = b.token + 1;
    }
    take_max(logits, from, n_vocab, best, most);
    if (best == LLAMA_TOKEN_NULL) {
        throw lm::grammar_error("no token of the vocabulary is allowed here");
    }
    return best;
}

} // namespace

bool lm::needs_no_context(const lm_sampler * s) { return s->argmax || s->plain; }

bool lm::worth_a_thread(const lm_sampler * s) { return s->plain; }

llama_token lm::sample(lm_sampler * s, llama_context * ctx, int32_t index, const float * logits) {
    if (logits == nullptr) {
        throw std::runtime_error("no logits at index " + std::to_string(index));
    }
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(s->model));
    if (s->argmax) {
        return argmax(s->params, logits, n_vocab);
    }
    if (s->broken) {
        throw lm::grammar_error("the grammar has refused a token before; reset the sampler");
    }
    llama_token_data_array all = {};
    const llama_token_data_array * cur = &all;
    if (s->plain) {
        // what common_sampler_sample does where there is neither a grammar nor a budget for reasoning
        s->cur.resize(n_vocab);
        for (llama_token t = 0; t < n_vocab; t++) {
            s->cur[t] = {t, logits[t], 0.0f};
        }
        all = {s->cur.data(), s->cur.size(), -1, false};
        llama_sampler_apply(common_sampler_get(s->smpl.get()), &all);
    } else {
        token_budget budget(s);
        common_sampler_sample(s->smpl.get(), ctx, index);
        budget.check();
        cur = common_sampler_get_candidates(s->smpl.get(), false);
    }
    // grammar and biases may leave no token, or the model none that is a number; what was drawn then means nothing
    if (cur->selected < 0 || !(cur->data[cur->selected].logit > -INFINITY)) {
        throw lm::grammar_error("no token of the vocabulary is allowed here");
    }
    return cur->data[cur->selected].id;
}

void lm::logprobs(const float * logits, int32_t n_vocab, llama_token token, int32_t n, lm_prob * out) {
    lm_prob * const top  = out + 1;
    int32_t         have = 0; // of n - 1, with logits in place of log-probabilities
    for (int32_t i = 0; i < n_vocab; i++) {
        if (have == n - 1 && (have == 0 || !(logits[i] > top[have - 1].logprob))) {
            continue;
        }
        int32_t at = have < n - 1 ? have++ : have - 1;
        for (; at > 0 && logits[i] > top[at - 1].logprob; at--) {
            top[at] = top[at - 1];
        }
        top[at] = {i, logits[i]};
    }
    const float most = *std::max_element(logits, logits + n_vocab);
    double      sum  = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        sum += std::exp(logits[i] - most);
    }
    const float total = most + static_cast<float>(std::log(sum));
    out[0] = {token, logits[token] - total};
    for (int32_t i = 0; i < have; i++) {
        top[i].logprob -= total;
    }
    for (int32_t i = have; i < n - 1; i++) { // a vocabulary smaller than n
        top[i] = {LLAMA_TOKEN_NULL, -INFINITY};
    }
}

int32_t lm_sampler_defaults(lm_sampler_params * out) {
    return lm::guard(nullptr, [&]() -> int32_t {
        static const common_params_sampling d;
        static const std::string            samplers = [] {
            std::string s;
            for (const common_sampler_type type : d.samplers) {
                s += common_sampler_type_to_chr(type);
            }
            return s;
        }();
        static const std::string breakers = [] {
            std::string s;
            for (const std::string & b : d.dry_sequence_breakers) {
                s += b + '\0';
            }
            return s;
        }();
        *out                    = {};
        out->seed               = d.seed;
        out->top_k              = d.top_k;
        out->top_p              = d.top_p;
        out->min_p              = d.min_p;
        out->min_keep           = d.min_keep;
        out->typ_p              = d.typ_p;
        out->top_n_sigma        = d.top_n_sigma;
        out->xtc_probability    = d.xtc_probability;
        out->xtc_threshold      = d.xtc_threshold;
        out->temp               = d.temp;
        out->dynatemp_range     = d.dynatemp_range;
        out->dynatemp_exponent  = d.dynatemp_exponent;
        out->penalty_last_n     = d.penalty_last_n;
        out->penalty_repeat     = d.penalty_repeat;
        out->penalty_freq       = d.penalty_freq;
        out->penalty_present    = d.penalty_present;
        out->dry_multiplier     = d.dry_multiplier;
        out->dry_base           = d.dry_base;
        out->dry_allowed_length = d.dry_allowed_length;
        out->dry_penalty_last_n = d.dry_penalty_last_n;
        out->adaptive_target    = d.adaptive_target;
        out->adaptive_decay     = d.adaptive_decay;
        out->mirostat           = d.mirostat;
        out->mirostat_tau       = d.mirostat_tau;
        out->mirostat_eta       = d.mirostat_eta;
        out->thinking_budget    = d.reasoning_budget_tokens;
        out->samplers           = samplers.data();
        out->n_samplers         = samplers.size();
        out->dry_breakers       = breakers.data();
        out->n_dry_breakers     = breakers.size();
        return LM_OK;
    });
}

int32_t lm_sampler_new(const llama_model * m, const lm_sampler_params * p, lm_sampler ** out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const llama_vocab * vocab = llama_model_get_vocab(m);

        common_params_sampling sp;
        sp.no_perf            = true;
        sp.seed               = p->seed;
        sp.top_k              = p->top_k;
        sp.top_p              = p->top_p;
        sp.min_p              = p->min_p;
        sp.min_keep           = p->min_keep;
        sp.typ_p              = p->typ_p;
        sp.top_n_sigma        = p->top_n_sigma;
        sp.xtc_probability    = p->xtc_probability;
        sp.xtc_threshold      = p->xtc_threshold;
        sp.temp               = p->temp;
        sp.dynatemp_range     = p->dynatemp_range;
        sp.dynatemp_exponent  = p->dynatemp_exponent;
        sp.penalty_last_n     = p->penalty_last_n;
        sp.penalty_repeat     = p->penalty_repeat;
        sp.penalty_freq       = p->penalty_freq;
        sp.penalty_present    = p->penalty_present;
        sp.dry_multiplier     = p->dry_multiplier;
        sp.dry_base           = p->dry_base;
        sp.dry_allowed_length = p->dry_allowed_length;
        sp.dry_penalty_last_n = p->dry_penalty_last_n;
        sp.mirostat           = p->mirostat;
        sp.mirostat_tau       = p->mirostat_tau;
        sp.mirostat_eta       = p->mirostat_eta;
        sp.adaptive_target    = p->adaptive_target;
        sp.adaptive_decay     = p->adaptive_decay;
        sp.samplers.clear();
        set_chain(sp, p);
        sp.dry_sequence_breakers = split(p->dry_breakers, p->n_dry_breakers);
        for (size_t i = 0; i < p->n_bias; i++) {
            sp.logit_bias.push_back({p->bias_token[i], p->bias[i]});
        }

        grammar_ptr grammar;
        if (p->n_grammar > 0) {
            const std::string gbnf(p->grammar, p->n_grammar);
            grammar = check_grammar(m, gbnf); // before common_sampler_init, which leaks when it throws
            const auto kind = p->grammar_kind == LM_GRAMMAR_TOOLS    ? COMMON_GRAMMAR_TYPE_TOOL_CALLS
                              : p->grammar_kind == LM_GRAMMAR_SCHEMA ? COMMON_GRAMMAR_TYPE_OUTPUT_FORMAT
                                                                     : COMMON_GRAMMAR_TYPE_USER;
            sp.grammar      = common_grammar(kind, gbnf);
            sp.grammar_lazy = p->grammar_lazy;
        }
        for (size_t i = 0; i < p->n_preserved; i++) {
            sp.preserved_tokens.insert(p->preserved[i]);
        }
        for (size_t i = 0; i < p->n_triggers; i++) {
            const lm_trigger & t = p->triggers[i];
            common_grammar_trigger g;
            g.type  = static_cast<common_grammar_trigger_type>(t.type);
            g.value.assign(t.value, t.n_value);
            g.token = t.token;
            if (g.type == COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN || g.type == COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL) {
                std::regex re(g.value); // throws here instead of inside common_sampler_init
            }
            sp.grammar_triggers.push_back(std::move(g));
        }
        sp.generation_prompt.assign(p->generation_prompt, p->n_generation_prompt);
        if (p->n_thinking_start > 0 && p->n_thinking_ends > 0 && (p->thinking_budget >= 0 || sp.grammar_lazy)) {
            // as llama-server: while the model thinks, a lazy grammar is not applied
            sp.reasoning_budget_tokens = p->thinking_budget;
            sp.reasoning_budget_start  = common_tokenize(vocab, std::string(p->thinking_start, p->n_thinking_start), false, true);
            for (const std::string & end : split(p->thinking_ends, p->n_thinking_ends)) {
                sp.reasoning_budget_end.push_back(common_tokenize(vocab, end, false, true));
            }
            const std::string message(p->thinking_message, p->n_thinking_message);
            sp.reasoning_budget_forced = common_tokenize(vocab, message, false, false);
            const llama_tokens & end   = sp.reasoning_budget_end.front();
            sp.reasoning_budget_forced.insert(sp.reasoning_budget_forced.end(), end.begin(), end.end());
        }

        auto s = std::make_unique<lm_sampler>();
        s->model  = m;
        s->params = std::move(sp);
        check_beginning(s.get(), grammar.get());
        s->smpl   = init(m, s->params);
        s->argmax = is_argmax(s->params, vocab);
        s->plain  = !s->argmax && s->params.grammar.empty() && s->params.reasoning_budget_end.empty();
        *out      = s.release();
        return LM_OK;
    });
}

void lm_sampler_free(lm_sampler * s) {
    lm::guard(nullptr, [&]() -> int32_t {
        delete s;
        return LM_OK;
    });
}

double lm_sampler_working(const lm_sampler * s) {
    return token_budget::working(s);
}

int32_t lm_sampler_clone(const lm_sampler * s, lm_sampler ** out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        auto c    = std::make_unique<lm_sampler>();
        c->model  = s->model;
        c->params = s->params;
        c->broken = s->broken;
        c->argmax = s->argmax;
        c->plain  = s->plain;
        c->smpl.reset(common_sampler_clone(s->smpl.get()));
        *out = c.release();
        return LM_OK;
    });
}

int32_t lm_sampler_reset(lm_sampler * s, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        s->smpl   = init(s->model, s->params);
        s->broken = false;
        return LM_OK;
    });
}

int32_t lm_sampler_accept(lm_sampler * s, const int32_t * tokens, size_t n, bool is_generated, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        if (s->broken) {
            throw lm::grammar_error("the grammar has refused a token before; reset the sampler");
        }
        const llama_vocab * vocab = llama_model_get_vocab(s->model);
        try {
            for (size_t i = 0; i < n; i++) {
                // the end of generation changes no grammar, but aborts the process where the grammar is not at its end
                const bool end = !s->params.grammar.empty() && llama_vocab_is_eog(vocab, tokens[i]);
                token_budget budget(s);
                common_sampler_accept(s->smpl.get(), tokens[i], is_generated && !end);
                budget.check();
            }
        } catch (const std::bad_alloc &) {
            s->broken = true;
            throw;
        } catch (const lm::grammar_budget &) {
            throw;
        } catch (const std::exception & e) {
            s->broken = true;
            throw lm::grammar_error(e.what());
        }
        return LM_OK;
    });
}

int32_t lm_grammar_check(const llama_model * m, const char * gbnf, size_t n, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        check_grammar(m, std::string(gbnf, n));
        return LM_OK;
    });
}

int32_t lm_schema_to_grammar(const char * schema, size_t n, char ** out, size_t * n_out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        lm::give(json_schema_to_grammar(common_json::parse(std::string(schema, n))), out, n_out);
        return LM_OK;
    });
}
