// What llama.cpp's own "common" library does with conversations, made callable: its Jinja templates, the grammars that it
// derives from tools and schemas, and its parsers of what a model says. The crate llama-cpp-2 links that library and doesn't bind
// this part of it. No exception leaves this file, and everything that crosses its border is JSON or plain text.

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "chat.h"
#include "json.h"
#include "json-schema-to-grammar.h"
#include "log.h"

namespace {

char *copied(const std::string &text) {
    char *copy = static_cast<char *>(std::malloc(text.size() + 1));
    if (copy != nullptr) {
        std::memcpy(copy, text.c_str(), text.size() + 1);
    }
    return copy;
}

// Runs `work` and puts its text, or what went wrong, into `out`. True where it went well.
template <typename Work> bool guarded(char **out, Work work) {
    bool well = false;
    std::string text;
    try {
        text = work();
        well = true;
    } catch (const std::exception &error) {
        text = error.what();
    } catch (...) {
        text = "an exception without a text";
    }
    // What is thrown may be thrown again while it's copied only where memory is out; then there's no text at all.
    *out = copied(text);
    return well && *out != nullptr;
}

const char *kind_of(common_grammar_trigger_type type) {
    switch (type) {
    case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
        return "word";
    case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
        return "pattern";
    case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
        return "full";
    default:
        return "word";
    }
}

std::string applied(const common_chat_templates *templates, const std::string &text) {
    const common_json request = common_json::parse(text);
    common_chat_templates_inputs inputs;
    inputs.use_jinja = request.at("jinja").get<bool>();
    inputs.messages = common_chat_msgs_parse_oaicompat(request.at("messages"));
    inputs.tools = common_chat_tools_parse_oaicompat(request.at("tools"));
    inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(request.at("tool_choice").get<std::string>());
    inputs.parallel_tool_calls = true;
    inputs.json_schema = request.at("json_schema").get<std::string>();
    inputs.enable_thinking = request.at("thinking").get<bool>();
    inputs.reasoning_format = COMMON_REASONING_FORMAT_AUTO;
    const common_chat_params params = common_chat_templates_apply(templates, inputs);

    common_json triggers = common_json::array();
    for (const auto &trigger : params.grammar_triggers) {
        common_json one = common_json::object();
        one["kind"] = std::string(kind_of(trigger.type));
        one["value"] = trigger.value;
        triggers.push_back(one);
    }
    common_json answer = common_json::object();
    answer["prompt"] = params.prompt;
    answer["grammar"] = params.grammar;
    answer["lazy"] = params.grammar_lazy;
    answer["triggers"] = triggers;
    answer["preserved"] = params.preserved_tokens;
    answer["stops"] = params.additional_stops;
    answer["generation_prompt"] = params.generation_prompt;
    answer["format"] = static_cast<int>(params.format);
    answer["parser"] = params.parser;
    return answer.dump_safe();
}

std::string parsed(const common_chat_parser_params &parser, const std::string &text, bool partial) {
    const common_chat_msg message = common_chat_parse(text, partial, parser);
    common_json calls = common_json::array();
    for (const auto &call : message.tool_calls) {
        common_json one = common_json::object();
        one["id"] = call.id;
        one["name"] = call.name;
        one["arguments"] = call.arguments;
        calls.push_back(one);
    }
    common_json answer = common_json::object();
    answer["content"] = message.render_content("");
    answer["calls"] = calls;
    return answer.dump_safe();
}

} // namespace

extern "C" {

// The library's own log of this part prints what people say: it's silenced.
void repartee_chat_silence(void) { common_log_set_verbosity_thold(-1); }

// A template; null, with the reason in `out`, where it can't be read. `jinja`: whether `source` is one, or the name of a built-in.
void *repartee_chat_template(const char *source, const char *bos, const char *eos, bool jinja, char **out) {
    common_chat_templates_ptr templates;
    const bool well = guarded(out, [&]() -> std::string {
        if (!jinja && !common_chat_verify_template(source, false)) {
            throw std::invalid_argument("llama.cpp has no built-in template of this name");
        }
        if (jinja && std::strcmp(source, "chatml") != 0) {
            // The library's own call loses the reason on its way (it throws a copy of the base class).
            common_chat_template(source, bos, eos);
        }
        templates = common_chat_templates_init(nullptr, source, bos, eos);
        return "";
    });
    return well ? templates.release() : nullptr;
}

void repartee_chat_template_free(void *templates) {
    common_chat_templates_free(static_cast<common_chat_templates *>(templates));
}

bool repartee_chat_apply(const void *templates, const char *request, char **out) {
    return guarded(out, [&] { return applied(static_cast<const common_chat_templates *>(templates), request); });
}

void *repartee_chat_parser(int format, const char *parser, const char *generation_prompt, char **out) {
    common_chat_parser_params *params = nullptr;
    const bool well = guarded(out, [&]() -> std::string {
        auto made = std::make_unique<common_chat_parser_params>();
        made->format = static_cast<common_chat_format>(format);
        made->reasoning_format = COMMON_REASONING_FORMAT_AUTO;
        made->generation_prompt = generation_prompt;
        if (*parser != '\0') {
            made->parser.load(parser);
        }
        params = made.release();
        return "";
    });
    if (!well) {
        delete params;
        return nullptr;
    }
    return params;
}

void repartee_chat_parser_free(void *parser) { delete static_cast<common_chat_parser_params *>(parser); }

bool repartee_chat_parse(const void *parser, const char *text, size_t length, bool partial, char **out) {
    return guarded(out, [&] {
        return parsed(*static_cast<const common_chat_parser_params *>(parser), std::string(text, length), partial);
    });
}

bool repartee_chat_schema(const char *schema, char **out) {
    return guarded(out, [&] { return json_schema_to_grammar(common_json::parse(schema)); });
}

void repartee_chat_text_free(char *text) { std::free(text); }
}
