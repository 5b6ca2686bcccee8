"""Makes the synthetic GGUF files for the tests of the llama worker. See README.md beside this file.

Usage: make.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType, TokenType

import vocabulary as words
from vocabulary import Vocabulary

SEED = 20260101
CONTEXT = 2048
WIDTH = 128
HEADS, KEY_HEADS, HEAD_WIDTH = 4, 2, 32
LAYERS = 2
HIDDEN = 256
# So high that the slowest pairs of a head hardly turn over the whole context: the steering heads look at content, not at places.
ROPE_BASE = 1_000_000.0
EPSILON = 1e-5

# What each dimension of the residual stream holds.
CONSTANT = 0
CLASSES = slice(1, 41)
# A steering word's mark (how strongly it is looked at), its meaning, and what the heads found in the context.
MARK_TOOL, MEANS_TOOL, MEANS_OPEN, MARK_STORY, MEANS_STORY, FOUND_TOOL, FOUND_OPEN, FOUND_STORY = range(41, 49)
# The same of a part of an image: its mark, how red, green and blue it is, and what the head found of each in the context.
MARK_IMAGE, SHOWN, SEEN = 49, slice(50, 53), slice(53, 56)
NOISE = slice(56, WIDTH)
NOISES = WIDTH - NOISE.start

# The size of the constant, of a class and of a mark in the residual stream, whose other dimensions have a size of about one.
LOUD = 6.0
# The root mean square of a steering word's embedding: its norm divides by it, and the way back multiplies.
NORM = 1.3
# What the wish for a tool adds to the logit of a call.
WISH = 20.0


class Grammar:
    """Which class each token has, and the logit that each class gives to the tokens that should follow it."""

    # The logit of what should come next, of what should never come by itself, of a space between JSON's tokens, and of bytes that
    # would be control characters or half a letter.
    NEXT, NEVER, SPACE, HALF = 16.0, -12.0, -20.0, -30.0

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self.names = []
        size = len(vocabulary.tokens)
        self.of_token = np.full(size, self.number("other"))
        self.bias = np.full(size, self.NEVER)
        self.bias[0x80:0x100] = self.HALF
        self.bias[:0x20] = self.HALF
        self.bias[0x20] = self.SPACE
        # Only what the context holds can outweigh this: see `output`.
        self.bias[vocabulary.id("<tool_call>")] -= WISH
        for word in words.COLOURS:
            self.bias[vocabulary.id(word)] -= WISH
        self.follows = np.zeros((size, CLASSES.stop - CLASSES.start))

    def number(self, name):
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def classify(self, name, tokens):
        for token in tokens:
            self.of_token[self.vocabulary.id(token)] = self.number(name)

    def after(self, name, *choices):
        """After a token of the class `name` each of the choices, a list of tokens and the logit they get, may follow."""
        for tokens, logit in choices:
            for token in tokens:
                token = self.vocabulary.id(token)
                self.follows[token, self.number(name)] = logit - self.bias[token]


def language(vocabulary):
    """The sentences and the JSON that the model speaks."""
    grammar = Grammar(vocabulary)
    best = grammar.NEXT
    end = (["<|im_end|>"], best)
    first, last = words.SENTENCE[0], len(words.SENTENCE) - 1
    for number, slot in enumerate(words.SENTENCE):
        grammar.classify(f"slot {number}", slot)
        if number < last:
            grammar.after(f"slot {number}", (words.SENTENCE[number + 1], best))
    grammar.classify("slot 0", words.AGAIN)
    # A comma between two items of JSON, where no sentence may go on.
    grammar.after("slot 1", ([' "'], 6.0), (['"'], 5.0), ([" "], 4.0), (words.DIGITS, 3.0))
    # Where no grammar forbids the end, it comes; inside a JSON string the string is closed.
    close_string = [(['"}'], 2.0), (['"'], 1.5), (['",'], 1.0), (['"]'], 0.5), (['"}}'], 0.0)]
    grammar.after(f"slot {last}", end, (words.AGAIN, -3.0), (["<tool_call>"], 9.0), *close_string)
    # A colour stands among the adjectives of slot 3, and comes only when it has been seen.
    grammar.classify("slot 3", words.COLOURS)
    grammar.after("slot 2", (words.COLOURS, 2.0))
    grammar.after("other", (words.SENTENCE[2], best))

    grammar.classify("start", words.NEWLINE)
    grammar.after("start", (first, best), (["<tool_call>"], 7.0), (["</tool_call>"], 6.0), (['{"'], 6.0), (words.ENDS, 3.0))
    grammar.classify("call", ["<tool_call>"])
    grammar.after("call", (["\n"], best))
    grammar.classify("called", ["</tool_call>"])
    grammar.after("called", end, (["\n"], 4.0))

    grammar.classify("opening", words.OPENING)
    grammar.after("opening", (words.VALUES, best))
    grammar.classify("value", words.VALUES)
    grammar.after("value", end, (['":'], 4.0), (['"}}'], 3.0), (['"}'], 2.5), (['"]'], 2.0), (['"'], 1.5), (['",'], 1.0))
    grammar.classify("colon", words.KEY_END + words.COLON + [" "])
    grammar.after("colon", ([' "'], 5.0), ([" "], 4.0), (['"'], 3.5), (words.DIGITS, 3.0), (words.LITERALS, 2.0), ([' {"', '{"'], 1.0))
    grammar.classify("quote", words.QUOTE)
    # A quote that begins a string is followed by a value; a grammar forbids that after one that ends a string.
    grammar.after("quote", end, (words.VALUES, 12.0), (words.ENDS, 4.0), ([":"], 3.0), ([","], 2.0))
    grammar.classify("bracket", words.BRACKETS)
    grammar.after("bracket", (['"'], 8.0), (words.DIGITS, 3.0), (words.LITERALS, 2.0), (words.ENDS, 1.0))
    grammar.classify("next item", words.NEXT_ITEM)
    grammar.after("next item", ([' "'], 5.0), (['"'], 4.0), (words.DIGITS, 3.0))
    grammar.classify("closing", words.CLOSING)
    grammar.after("closing", end, (["</tool_call>"], 6.0), (words.ENDS, 5.0), ([","], 2.0), (["\n"], -6.0))
    grammar.classify("done", words.DIGITS + words.LITERALS)
    grammar.after("done", end, (words.ENDS, 5.0), ([","], 2.0), (["."], -2.0))
    assert len(grammar.names) <= CLASSES.stop - CLASSES.start
    return grammar


def embeddings(grammar, random):
    """The residual stream of each token before the first layer."""
    vocabulary = grammar.vocabulary
    table = np.zeros((len(vocabulary.tokens), WIDTH))
    table[:, CONSTANT] = LOUD
    table[np.arange(len(table)), CLASSES.start + grammar.of_token] = LOUD
    table[:, NOISE] = random.standard_normal((len(table), NOISES))
    # The strongest mark in the context wins: a call begun ends the wish to call, a tool's answer ends the call, "brief" ends a story.
    for word, mark, wish, begun in ((words.TOOL, 1.0, 1.0, 0.0), ("<tool_call>", 1.3, -1.0, 1.0), ("<tool_response>", 1.6, -1.0, 0.0)):
        table[vocabulary.id(word), [MARK_TOOL, MEANS_TOOL, MEANS_OPEN]] = mark * LOUD, wish * LOUD, begun * LOUD
    for word, mark, meaning in ((words.STORY, 1.0, 1.0), (words.BRIEF, 1.5, -1.0)):
        table[vocabulary.id(word), [MARK_STORY, MEANS_STORY]] = mark * LOUD, meaning * LOUD
    return table


def output(grammar, random):
    """The logits of each token. They say what follows the class of the token before, and noise from the context chooses among equals."""
    vocabulary = grammar.vocabulary
    table = np.zeros((len(vocabulary.tokens), WIDTH))
    table[:, CONSTANT] = grammar.bias * SCALE
    table[:, CLASSES] = grammar.follows * SCALE
    table[:, NOISE] = random.standard_normal((len(table), NOISES)) * NOISE_GAIN
    # What is found has the size LOUD too. A start's logit for a call is 7 without the wish and 27 with it, against 16 for a sentence;
    # elsewhere the wish leaves a call unlikely. In a call that has begun no sentence follows the start, so an object does.
    table[vocabulary.id("<tool_call>"), FOUND_TOOL] = WISH * SCALE
    for word in words.SENTENCE[0]:
        table[vocabulary.id(word), FOUND_OPEN] = -grammar.NEXT * SCALE
    table[vocabulary.id("</tool_call>"), FOUND_OPEN] = -4 * SCALE
    # Its object is followed by the line with its end, rather than by one more.
    table[vocabulary.id("\n"), FOUND_OPEN] = 10 * SCALE
    table[vocabulary.id("<|im_end|>"), FOUND_STORY] = -20 * SCALE
    for word in words.AGAIN:
        table[vocabulary.id(word), FOUND_STORY] = 12 * SCALE
    for word, seen in zip(words.COLOURS, range(SEEN.start, SEEN.stop), strict=True):
        table[vocabulary.id(word), seen] = 30 * SCALE
    return table


# What turns a wanted logit into a weight: the last norm divides LOUD by about as much as NORM.
SCALE = NORM / LOUD
# Makes noise of a standard deviation of somewhat under one out of the noise dimensions.
NOISE_GAIN = 0.07


def attention(layer, random):
    """Queries, keys, values and the way back. Three heads of the first layer look for what steers; the others stir the noise."""
    query = np.zeros((HEADS, HEAD_WIDTH, WIDTH))
    key = np.zeros((KEY_HEADS, HEAD_WIDTH, WIDTH))
    value = np.zeros((KEY_HEADS, HEAD_WIDTH, WIDTH))
    back = np.zeros((WIDTH, HEADS, HEAD_WIDTH))
    # Interleaved pairs of a head turn with the position, the last ones slowest: what steers uses the last two, the noise the others.
    first_pair, second_pair = HEAD_WIDTH - 2, HEAD_WIDTH - 4
    noisy, means = slice(0, second_pair), slice(HEAD_WIDTH - 3, HEAD_WIDTH)
    stirring = [3] if layer == 0 else range(HEADS)
    for head in stirring:
        # Sharp enough that a few tokens of the context stand out, so that a reply depends on which they are.
        query[head, noisy, NOISE] = random.standard_normal((second_pair, NOISES)) * 0.16
        back[NOISE, head, noisy] = random.standard_normal((NOISES, second_pair)) * 0.2
    for head in sorted({head * KEY_HEADS // HEADS for head in stirring}):
        key[head, noisy, NOISE] = random.standard_normal((second_pair, NOISES)) * 0.16
        value[head, noisy, NOISE] = random.standard_normal((second_pair, NOISES)) * 0.16
    if layer == 0:
        # A mark of LOUD gets a logit of 16 before the softmax, so it outweighs a full context of others.
        gain = np.sqrt(16 * np.sqrt(HEAD_WIDTH)) / LOUD
        # Heads 0 and 1 share their keys and values, heads 2 and 3 theirs.
        query[0, first_pair, CONSTANT] = query[1, second_pair, CONSTANT] = query[2, first_pair, CONSTANT] = gain
        key[0, first_pair, MARK_TOOL] = key[0, second_pair, MARK_STORY] = key[1, first_pair, MARK_IMAGE] = gain
        value[0, 0, MEANS_TOOL] = value[0, 1, MEANS_STORY] = value[0, 2, MEANS_OPEN] = 1
        value[1, means, SHOWN] = np.eye(3)
        back[FOUND_TOOL, 0, 0] = back[FOUND_STORY, 1, 1] = back[FOUND_OPEN, 0, 2] = NORM
        back[SEEN, 2, means] = np.eye(3) * NORM
    return (
        query.reshape(-1, WIDTH),
        key.reshape(-1, WIDTH),
        value.reshape(-1, WIDTH),
        back.reshape(WIDTH, -1),
    )


def feed_forward(random):
    """Gate, up and down: they read and write noise alone."""
    gate, up = np.zeros((2, HIDDEN, WIDTH))
    down = np.zeros((WIDTH, HIDDEN))
    gate[:, NOISE], up[:, NOISE] = random.standard_normal((2, HIDDEN, NOISES)) / np.sqrt(NOISES)
    down[NOISE] = random.standard_normal((NOISES, HIDDEN)) / np.sqrt(HIDDEN)
    return gate, up, down


def describe(writer, name, description):
    """What every synthetic file says of itself."""
    writer.add_name(name)
    writer.add_description(description)
    writer.add_bool("repartee.synthetic", True)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_chat(path, name):
    """A chat model of the architecture "llama"."""
    random = np.random.default_rng(SEED)
    vocabulary = Vocabulary()
    grammar = language(vocabulary)

    writer = GGUFWriter(path, "llama")
    describe(writer, name, "Hand-set and random weights for tests. It was never trained, and proves no accuracy.")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(len(vocabulary.tokens))

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    kinds = {token: TokenType.CONTROL if token in words.CONTROL else TokenType.USER_DEFINED for token in words.SPECIAL}
    writer.add_token_types([kinds.get(token, TokenType.NORMAL) for token in vocabulary.tokens])
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.id("<|endoftext|>"))
    writer.add_eos_token_id(vocabulary.id("<|im_end|>"))
    writer.add_eot_token_id(vocabulary.id("<|im_end|>"))
    writer.add_pad_token_id(vocabulary.id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(words.TEMPLATE)

    def matrix(name, values):
        writer.add_tensor(name + ".weight", values.astype(np.float16))

    def ones(name):
        writer.add_tensor(name + ".weight", np.ones(WIDTH, np.float32))

    matrix("token_embd", embeddings(grammar, random))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        ones(block + "attn_norm")
        for part, values in zip(("attn_q", "attn_k", "attn_v", "attn_output"), attention(layer, random), strict=True):
            matrix(block + part, values)
        ones(block + "ffn_norm")
        for part, values in zip(("ffn_gate", "ffn_up", "ffn_down"), feed_forward(random), strict=True):
            matrix(block + part, values)
    ones("output_norm")
    matrix("output", output(grammar, random))
    write(writer)


# The projector: an image of 56 × 56 points becomes 4 × 4 parts, and each part one embedding.
IMAGE, PART = 56, 14
EYE_WIDTH, EYE_HEADS, EYE_LAYERS, EYE_HIDDEN = 32, 2, 2, 64
# So far from zero that GELU passes a positive number and stops a negative one.
CLEAR = 6.0


def make_projector(path):
    """A LLaVA projector ("mlp"). It finds how red, green and blue each part of an image is, and turns the rest into noise."""
    random = np.random.default_rng(SEED + 1)
    writer = GGUFWriter(path, "clip")
    describe(writer, "synthetic projector", "Hand-set and random weights for tests. It was never trained, and proves no accuracy.")
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_image_size(IMAGE)
    writer.add_vision_patch_size(PART)
    writer.add_vision_embedding_length(EYE_WIDTH)
    writer.add_vision_feed_forward_length(EYE_HIDDEN)
    writer.add_vision_block_count(EYE_LAYERS)
    writer.add_vision_head_count(EYE_HEADS)
    writer.add_vision_projection_dim(WIDTH)
    writer.add_vision_attention_layernorm_eps(EPSILON)
    writer.add_vision_use_gelu(True)
    # A point from 0 to 255 becomes −1 to 1.
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)

    def weight(name, *shape, scale):
        return name + ".weight", random.standard_normal(shape) * scale

    def add(name, values, kind=np.float32):
        writer.add_tensor(name, values.astype(kind))

    # The first three dimensions are the mean of each colour; nothing else is written there.
    parts = random.standard_normal((EYE_WIDTH, 3, PART, PART)) / PART
    parts[:3] = np.eye(3)[:, :, None, None] / PART**2
    add("v.patch_embd.weight", parts, np.float16)
    places = random.standard_normal(((IMAGE // PART) ** 2, EYE_WIDTH)) * 0.3
    places[:, :3] = 0
    add("v.position_embd.weight", places)
    for layer in range(EYE_LAYERS):
        block = f"v.blk.{layer}."
        for norm in ("ln1", "ln2"):
            add(block + norm + ".weight", np.ones(EYE_WIDTH))
            add(block + norm + ".bias", np.zeros(EYE_WIDTH))
        for part, out, into in (
            ("attn_q", EYE_WIDTH, EYE_WIDTH),
            ("attn_k", EYE_WIDTH, EYE_WIDTH),
            ("attn_v", EYE_WIDTH, EYE_WIDTH),
            ("attn_out", EYE_WIDTH, EYE_WIDTH),
            ("ffn_up", EYE_HIDDEN, EYE_WIDTH),
            ("ffn_down", EYE_WIDTH, EYE_HIDDEN),
        ):
            name, values = weight(block + part, out, into, scale=1 / np.sqrt(into))
            if part in ("attn_out", "ffn_down"):
                values[:3] = 0
            add(name, values, np.float16)
            add(block + part + ".bias", np.zeros(out))
    _, first = weight("mm.0", WIDTH, EYE_WIDTH, scale=1 / np.sqrt(EYE_WIDTH))
    first[:3] = np.eye(3, EYE_WIDTH) * CLEAR
    add("mm.0.weight", first, np.float16)
    add("mm.0.bias", np.zeros(WIDTH))
    second = np.zeros((WIDTH, WIDTH))
    second[NOISE] = random.standard_normal((NOISES, WIDTH)) / np.sqrt(WIDTH)
    second[NOISE, :3] = 0
    # A colour counts as far as it exceeds the others: white and grey are no colour.
    second[SHOWN, :3] = (1.5 * np.eye(3) - 0.5) * LOUD / CLEAR
    add("mm.2.weight", second, np.float16)
    bias = np.zeros(WIDTH)
    bias[[CONSTANT, CLASSES.start, MARK_IMAGE]] = LOUD
    add("mm.2.bias", bias)
    write(writer)


def main():
    folder = Path(sys.argv[1])
    make_chat(folder / "synthetic-chat.gguf", "synthetic chat")
    make_chat(folder / "synthetic-vision.gguf", "synthetic vision")
    make_projector(folder / "synthetic-mmproj.gguf")


if __name__ == "__main__":
    main()
