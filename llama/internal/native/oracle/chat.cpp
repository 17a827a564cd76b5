// llama.cpp's own chat handling as an oracle for the tests: no shim, no Go.
//
//   chat-oracle cases    runs the cases of llama.cpp's tests/test-chat.cpp and writes each rendering and each answer as a line of
//                        JSON. The test program asserts each of them; a case it fails ends the run.
//   chat-oracle render   renders requests, read as lines of JSON, as llama-server does.
//
// test-chat.cpp is compiled as it is. What it calls to render and to parse is replaced by functions that do the same and write
// it down. It must run in the root of llama.cpp's tree.

#include "chat.h"
#include "common.h"
#include "json.h"
#include "llama.h"
#include "log.h"
#include "peg-parser.h"
#include "tools/server/server-chat.h"

#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace oracle {

static int64_t seconds(std::chrono::system_clock::time_point t) {
    return std::chrono::duration_cast<std::chrono::seconds>(t.time_since_epoch()).count();
}

static common_json inputs_json(const common_chat_templates_inputs & in) {
    common_json tools = common_json::array();
    for (const auto & t : in.tools) {
        tools.push_back({
            {"name", t.name},
            {"description", t.description},
            {"parameters", t.parameters},
        });
    }
    common_json kwargs = common_json::object();
    for (const auto & [name, value] : in.chat_template_kwargs) {
        kwargs[name] = common_json::parse(value);
    }
    return common_json{
        {"messages", common_chat_msgs_to_json_oaicompat(in.messages)},
        {"tools", tools},
        {"tool_choice", (int) in.tool_choice},
        {"parallel_tool_calls", in.parallel_tool_calls},
        {"json_schema", in.json_schema},
        {"grammar", in.grammar},
        {"add_generation_prompt", in.add_generation_prompt},
        {"continue_final_message", (int) in.continue_final_message},
        {"enable_thinking", in.enable_thinking},
        {"reasoning_format", (int) in.reasoning_format},
        {"kwargs", kwargs},
        {"now", seconds(in.now)},
    };
}

static common_json params_json(const common_chat_params & p) {
    common_json triggers = common_json::array();
    for (const auto & t : p.grammar_triggers) {
        triggers.push_back({
            {"type", (int) t.type},
            {"value", t.value},
        });
    }
    return common_json{
        {"format", common_chat_format_name(p.format)},
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
    };
}

static common_json msg_json(const common_chat_msg & msg) {
    common_json calls = common_json::array();
    for (const auto & c : msg.tool_calls) {
        calls.push_back({
            {"id", c.id},
            {"name", c.name},
            {"arguments", c.arguments},
        });
    }
    return common_json{
        {"content", msg.content},
        {"reasoning_content", msg.reasoning_content},
        {"tool_calls", calls},
    };
}

// a rendering, and where the test reads an answer to it the whole of that
struct record {
    std::string                template_source;
    common_json                inputs;
    bool                       media = false;
    std::optional<std::string> prompt_json;
    std::string                error;
    std::string                input;
    bool                       parsed  = false;
    bool                       partial = true;
    std::string                answer_json;
};

static std::optional<record> last;

static void flush() {
    if (!last) {
        return;
    }
    common_json line{
        {"template", last->template_source},
        {"inputs", last->inputs},
        {"media", last->media},
        {"error", last->error},
    };
    if (last->prompt_json) {
        line["prompt"] = common_json::parse(*last->prompt_json);
    }
    if (last->parsed) {
        line["answer"] = common_json{
            {"input", last->input},
            {"partial", last->partial},
            {"message", common_json::parse(last->answer_json)},
        };
    }
    std::cout << line.dump_safe() << "\n";
    last.reset();
}

static common_chat_params apply(const common_chat_templates * tmpls, const common_chat_templates_inputs & in) {
    flush();
    last.emplace();
    last->template_source = common_chat_templates_source(tmpls);
    last->inputs          = inputs_json(in);
    for (const auto & m : in.messages) {
        last->media = last->media || m.contains_media();
    }
    try {
        auto p            = common_chat_templates_apply(tmpls, in);
        last->prompt_json = params_json(p).dump_safe();
        return p;
    } catch (const std::exception & e) {
        last->error = e.what();
        throw;
    }
}

// test-chat.cpp reads every beginning of an answer, then all of it
static common_chat_msg parse(const common_peg_arena & arena, const std::string & input, bool partial, const common_chat_parser_params & params) {
    auto msg = common_chat_peg_parse(arena, input, partial, params);
    if (last && (input.size() > last->input.size() || !partial)) {
        last->parsed      = true;
        last->input       = input;
        last->partial     = partial;
        last->answer_json = msg_json(msg).dump_safe();
    }
    return msg;
}

} // namespace oracle

#define common_chat_templates_apply oracle::apply
#define common_chat_peg_parse oracle::parse
#define main static test_chat_main // unused: so is what it alone calls, some of it of llama-server
#include "tests/test-chat.cpp"
#undef main
#undef common_chat_templates_apply
#undef common_chat_peg_parse

static void cases() {
    test_developer_role_to_system_workaround();
    test_deepseek_v4_thinking_retention();
    test_deepseek_v4_tool_result_ordering();
    test_template_generation_prompt();
    test_reasoning_effort_caps();
    test_template_output_peg_parsers(false);
    oracle::flush();
}

// a template with the vocabulary of a model, made once
struct compiled {
    llama_model *             model = nullptr;
    common_chat_templates_ptr tmpls;
    bool                      thinking = false;

    compiled(const std::string & path, const std::string & source) {
        llama_model_params mp = llama_model_default_params();
        mp.vocab_only         = true;
        model                 = llama_model_load_from_file(path.c_str(), mp);
        tmpls                 = common_chat_templates_init(model, source);
        thinking              = common_chat_templates_support_enable_thinking(tmpls.get());
    }

    ~compiled() { llama_model_free(model); }
};

static void render() {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    std::map<std::string, std::unique_ptr<compiled>> all;
    std::string                                      line;
    while (std::getline(std::cin, line)) {
        const common_json req    = common_json::parse(line);
        const auto        path   = req.at("model").get<std::string>();
        const auto        source = req.at("template").get<std::string>();
        common_json       out    = common_json::object();
        try {
            auto & c = all[path + source];
            if (!c) {
                c = std::make_unique<compiled>(path, source);
            }
            common_chat_templates_inputs in;
            in.messages               = common_chat_msgs_parse_oaicompat(req.at("messages"));
            in.tools                  = common_chat_tools_parse_oaicompat(req.at("tools"));
            in.tool_choice            = common_chat_tool_choice_parse_oaicompat(req.at("tool_choice").get<std::string>());
            in.parallel_tool_calls    = req.at("parallel_tool_calls").get<bool>();
            in.add_generation_prompt  = req.at("add_generation_prompt").get<bool>();
            in.continue_final_message = common_chat_continuation_parse(req.at("continue_final_message"));
            in.reasoning_format       = COMMON_REASONING_FORMAT_DEEPSEEK;
            in.enable_thinking        = req.value("enable_thinking", c->thinking);
            in.now                    = std::chrono::system_clock::from_time_t(req.at("now").get<int64_t>());
            for (const auto & [name, value] : req.at("kwargs").items()) {
                in.chat_template_kwargs[name] = value.dump();
            }
            const auto p  = common_chat_templates_apply(c->tmpls.get(), in);
            out["prompt"] = oracle::params_json(p);
            out["tokens"] = common_tokenize(llama_model_get_vocab(c->model), p.prompt, true, true);
        } catch (const std::exception & e) {
            out["error"] = e.what();
        }
        std::cout << out.dump_safe() << "\n";
    }
}

extern "C" int chat_oracle(const char * mode) {
    common_log_pause(common_log_main());
    try {
        if (mode == std::string("cases")) {
            cases();
        } else {
            render();
        }
    } catch (const std::exception & e) {
        std::cerr << "chat-oracle: " << e.what() << "\n";
        return 1;
    }
    std::cout.flush();
    return 0;
}
