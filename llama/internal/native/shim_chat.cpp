#include "shim_internal.h"

#include "chat.h"
#include "common.h"

#include <algorithm>
#include <memory>
#include <vector>

struct lm_chat {
    common_chat_templates_ptr tmpls;
    bool                      explicit_template;
    bool                      thinking; // the template knows enable_thinking
    bool                      builtin;  // the name of a format of llama.cpp's own, rendered without jinja
};

static std::vector<const char *> builtins() {
    std::vector<const char *> names(llama_chat_builtin_templates(nullptr, 0));
    llama_chat_builtin_templates(names.data(), names.size());
    return names;
}

// chatml is a jinja template, too
static bool is_builtin(const std::string & name) {
    const auto names = builtins();
    return name != "chatml" && std::find(names.begin(), names.end(), name) != names.end();
}

struct lm_parser {
    common_chat_parser_params params;
};

int32_t lm_chat_builtins(char ** out, size_t * n_out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        std::string all;
        for (const char * name : builtins()) {
            all += std::string(name) + "\n";
        }
        lm::give(all, out, n_out);
        return LM_OK;
    });
}

int32_t lm_chat_new(const llama_model * m, const char * tmpl, size_t n, lm_chat ** out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        auto c               = std::make_unique<lm_chat>();
        c->builtin           = is_builtin(std::string(tmpl, n));
        c->tmpls             = common_chat_templates_init(m, std::string(tmpl, n));
        c->explicit_template = common_chat_templates_was_explicit(c->tmpls.get());
        try { // renders an example, which a template may refuse
            c->thinking = !c->builtin && common_chat_templates_support_enable_thinking(c->tmpls.get());
        } catch (const std::exception &) {
            c->thinking = false;
        }
        *out                 = c.release();
        return LM_OK;
    });
}

void lm_chat_free(lm_chat * c) {
    lm::guard(nullptr, [&]() -> int32_t {
        delete c;
        return LM_OK;
    });
}

int32_t lm_chat_caps(const lm_chat * c, char ** out, size_t * n_out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        common_json caps = common_json::object();
        for (const auto & [name, value] : common_chat_templates_get_caps(c->tmpls.get())) {
            caps[name] = value;
        }
        lm::give(common_json{
                     {"explicit", c->explicit_template},
                     {"thinking", c->thinking},
                     {"builtin", c->builtin},
                     {"source", common_chat_templates_source(c->tmpls.get())},
                     {"caps", caps},
                 }
                     .dump_safe(),
                 out, n_out);
        return LM_OK;
    });
}

int32_t lm_chat_apply(const lm_chat * c, const char * request, size_t n, char ** out, size_t * n_out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const common_json req = common_json::parse(std::string(request, n));

        common_chat_templates_inputs in;
        in.use_jinja              = !c->builtin;
        in.messages               = common_chat_msgs_parse_oaicompat(req.at("messages"));
        in.tools                  = common_chat_tools_parse_oaicompat(req.at("tools"));
        in.tool_choice            = common_chat_tool_choice_parse_oaicompat(req.at("tool_choice").get<std::string>());
        in.json_schema            = req.value("json_schema", "");
        in.grammar                = req.value("grammar", "");
        in.add_generation_prompt  = req.at("add_generation_prompt").get<bool>();
        in.parallel_tool_calls    = req.at("parallel_tool_calls").get<bool>();
        in.enable_thinking        = req.value("enable_thinking", c->thinking);
        in.reasoning_format       = common_reasoning_format_from_name(req.at("reasoning_format").get<std::string>());
        in.continue_final_message = common_chat_continuation_parse(req.at("continue_final_message"));
        if (req.contains("now")) {
            in.now = std::chrono::system_clock::from_time_t(req.at("now").get<int64_t>());
        }
        for (const auto & [name, value] : req.at("kwargs").items()) {
            in.chat_template_kwargs[name] = value.dump();
        }

        const common_chat_params p = common_chat_templates_apply(c->tmpls.get(), in);

        common_json triggers = common_json::array();
        for (const auto & t : p.grammar_triggers) {
            triggers.push_back({
                {"type", (int) t.type},
                {"value", t.value},
                {"token", t.token},
            });
        }
        lm::give(common_json{
                     {"prompt", p.prompt},
                     {"grammar", p.grammar},
                     {"grammar_lazy", p.grammar_lazy},
                     {"generation_prompt", p.generation_prompt},
                     {"triggers", triggers},
                     {"preserved_tokens", p.preserved_tokens},
                     {"stops", p.additional_stops},
                     {"supports_thinking", p.supports_thinking},
                     {"thinking_start", p.thinking_start_tag},
                     {"thinking_ends", p.thinking_end_tags},
                     {"parser",
                      {
                          {"format", (int) p.format},
                          {"generation_prompt", p.generation_prompt},
                          {"arena", p.parser},
                      }},
                 }
                     .dump_safe(),
                 out, n_out);
        return LM_OK;
    });
}

int32_t lm_parser_new(const char * params, size_t n, lm_parser ** out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const common_json j = common_json::parse(std::string(params, n));

        auto p                         = std::make_unique<lm_parser>();
        p->params.format               = static_cast<common_chat_format>(j.at("format").get<int>());
        p->params.generation_prompt    = j.at("generation_prompt").get<std::string>();
        p->params.reasoning_format     = COMMON_REASONING_FORMAT_DEEPSEEK;
        p->params.parse_tool_calls     = true;
        const std::string arena        = j.at("arena").get<std::string>();
        if (!arena.empty()) {
            p->params.parser.load(arena);
        }
        *out = p.release();
        return LM_OK;
    });
}

void lm_parser_free(lm_parser * p) {
    lm::guard(nullptr, [&]() -> int32_t {
        delete p;
        return LM_OK;
    });
}

int32_t lm_parser_parse(const lm_parser * p, const char * text, size_t n, bool partial, char ** out, size_t * n_out, char ** err) {
    return lm::guard(err, [&]() -> int32_t {
        const common_chat_msg msg = common_chat_parse(std::string(text, n), partial, p->params);

        common_json calls = common_json::array();
        for (const auto & t : msg.tool_calls) {
            calls.push_back({
                {"id", t.id},
                {"name", t.name},
                {"arguments", t.arguments},
            });
        }
        lm::give(common_json{
                     {"content", msg.content.empty() ? msg.render_content() : msg.content},
                     {"reasoning_content", msg.reasoning_content},
                     {"tool_calls", calls},
                 }
                     .dump_safe(),
                 out, n_out);
        return LM_OK;
    });
}
