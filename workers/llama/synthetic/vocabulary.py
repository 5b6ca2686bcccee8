"""The vocabulary of the synthetic chat model, and what follows what in its sentences.

Token ids: 0 to 255 are the bytes of the same value, so that every UTF-8 text and every grammar can be produced. Then come the special
tokens, then whole words, then the stems that byte-pair merging needs on its way to a word.
"""

# In this order from id 256 on.
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
]
# Matched in a template only (`parse_special`), and never part of a reply's text. The others are plain text that happens to be one token.
CONTROL = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}

# A reply is one sentence with one word out of each slot. A slot follows the one before it, so that every sentence ends.
SENTENCE = [
    ["Yes", "Well", "Now", "Right", "Sure", "Okay"],
    [","],
    [" the", " this", " that", " our", " one", " your"],
    [" little", " small", " quiet", " tiny", " plain", " calm"],
    [" model", " machine", " parrot", " engine", " voice", " speaker"],
    [" says", " hears", " makes", " finds", " gives", " keeps"],
    [" some", " many", " few", " eight", " seven", " nine"],
    [" short", " random", " idle", " simple", " empty", " odd"],
    [" words", " sounds", " answers", " letters", " sentences", " numbers"],
    [" and", " or", " but", " while", " because", " so"],
    [" nobody", " somebody", " everybody", " it", " she", " he"],
    [" knows", " learns", " loves", " opens", " leaves", " sees"],
    # The letter é has no token of its own: its two bytes come as two tokens, and half a character must not reach a listener.
    [" caf"],
    [b"\xc3"],
    [b"\xa9"],
    ["."],
]
# What begins the next sentence of a story.
AGAIN = [" Then", " Later", " Soon", " Still", " Again", " Once"]
# What stands in a JSON string.
VALUES = ["Rome", "Oslo", "Lima", "Cairo", "Paris", "Tokyo"]
# What the model says of the colour of an image, in the order of the image's channels.
COLOURS = [" red", " green", " blue"]
# Words that steer the model wherever they stand in the context.
TOOL, STORY, BRIEF = " tool", " story", " brief"

OPENING = ['{"', ' "', '["', ' {"', ' ["']
KEY_END = ['":']
COLON = [":"]
QUOTE = ['"']
NEXT_ITEM = ['",']
ENDS = ["}", "]", "}}"]
CLOSING = ['"}', '"]', '"}}', *ENDS]
LITERALS = ["true", " true", "null", " null"]
DIGITS = list("0123456789")
BRACKETS = ["{", "[", " {", " ["]
NEWLINE = ["\n"]

# Words of the template and of common prompts, so that prompts take fewer tokens than bytes.
COMMON = (
    "system user assistant name description parameters arguments type object string function properties required get weather city time "
    "number content You Tools are you is to of in a I me and for with what What tell Tell Use use please call each functions function "
    "return json signatures within XML tags provided assist query more may must be not do How how how's can Can my on at"
).split()


def byte_letters():
    """GPT-2's table: each byte as the printable letter that stands for it in a byte-pair vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + number) for number, byte in enumerate(rest)}


LETTERS = byte_letters()


def spell(text):
    """A word (text, or bytes where they are no whole text) in the letters of the vocabulary."""
    return "".join(LETTERS[byte] for byte in (text if isinstance(text, bytes) else text.encode()))


class Vocabulary:
    """Tokens in order of their ids, the merges that make words out of letters, and the id of each token."""

    def __init__(self):
        self.tokens = [LETTERS[byte] for byte in range(256)] + SPECIAL
        self.merges = []
        words = [word for slot in SENTENCE for word in slot] + AGAIN + VALUES + COLOURS + [TOOL, STORY, BRIEF]
        words += OPENING + KEY_END + NEXT_ITEM + CLOSING + LITERALS
        words += [" " + word for word in COMMON] + COMMON
        # Words with a space in front come first: a merge of two inner letters must not win over the way from a word's beginning.
        words.sort(key=lambda word: not (isinstance(word, str) and word.startswith(" ")))
        known = set(self.tokens)
        merged = set()
        for word in map(spell, words):
            for end in range(2, len(word) + 1):
                stem, pair = word[:end], (word[: end - 1], word[end - 1])
                if pair not in merged:
                    merged.add(pair)
                    self.merges.append(" ".join(pair))
                if stem not in known:
                    known.add(stem)
                    self.tokens.append(stem)
        self.ids = {token: number for number, token in enumerate(self.tokens)}

    def id(self, word):
        """The id of a special token, or of a word that is one token."""
        return self.ids[word] if word in SPECIAL else self.ids[spell(word)]


# ChatML with tools as Qwen 2.5 and Hermes write them: llama.cpp finds out from it how calls look, and makes their grammar.
TEMPLATE = r"""
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- '# Functions\n\nYou may call one or more functions. They are within <tools></tools> tags:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\n</tools>\n\nFor each call return a json object with its name and arguments.<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}
            {{- '\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
""".strip()
