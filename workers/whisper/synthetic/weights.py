"""Hand-set weights of a Whisper model that writes one word for each slot of loud audio.

The 30 seconds of a window are 75 slots of 0.4 seconds. A token stands for a slot and a word, or for a slot and silence; it carries its
slot as a code, and the decoder turns the code to the next slot. One head of the cross attention looks at that slot: how loud it is, and
which of its bands stand out, which chooses the word. The other head looks for the last loud slot: once the token has reached it, the
text ends. Nothing else is looked at, so neither a prompt nor earlier words change what follows.
"""

import numpy as np

MELS, AUDIO_CONTEXT, TEXT_CONTEXT = 80, 1500, 448
STATE, HEADS, LAYERS = 32, 2, 1
HEAD = STATE // HEADS

# Frames of the encoder (20 ms) in a slot, and slots in a window.
SLOT = 20
SLOTS = AUDIO_CONTEXT // SLOT
# Slots before the first one: that of an opening timestamp (or of "no timestamps"), and that of what precedes it.
OPENED, BEFORE = -1, -2
# A word for each contrast of neighbouring bands, falling or rising; the last is silence, which has no text.
WORDS = [" alpha", " bravo", " charlie", " delta", " echo", " foxtrot", " golf", " hotel", ""]
SILENCE = len(WORDS) - 1
CONTRASTS = 4

# The first 256 tokens are the bytes in the order of GPT-2.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = PRINTABLE + [byte for byte in range(256) if byte not in PRINTABLE]

# A slot's code: four pairs of cosine and sine. These multiples of a turn keep any two of the slots apart; see `check_codes`.
TURNS = np.array([3, 27, 31, 39]) * 2 * np.pi / 80

# Where the encoder and the decoder hold what. The encoder's negatives are 16 dimensions further, so that its mean is zero and the norm
# that follows moves nothing; the decoder's are at `AGAINST` for the first 14 dimensions.
E_CONTRAST, E_LOUD, E_SLOT, E_CONSTANT, E_CODE = slice(0, 4), 4, 5, 6, slice(8, 16)
D_CODE, D_CONTRAST, D_LOUD, D_DONE, D_TIMESTAMP, D_BIAS, D_LEFT, D_REST = slice(0, 8), slice(8, 12), 12, 13, 14, 15, 16, 31
AGAINST = slice(17, 31)
# A slot's number, as the encoder and the tokens hold it: divided so that it stays about as large as everything else.
NUMBER = 1 / 25


class Layout:
    """The ids of tokens. whisper.cpp derives the special ones from the size of the vocabulary, and so does this."""

    def __init__(self, tokens):
        self.tokens = tokens
        several = tokens >= 51865
        languages = tokens - 51765 - several
        self.end = 50256 + several
        self.start = self.end + 1
        self.languages = range(self.start + 1, self.start + 1 + languages)
        shift = several + (languages - 99 if several else 0)
        self.translate, self.transcribe = 50357 + shift, 50358 + shift
        self.no_speech = 50361 + shift
        self.no_timestamps = 50362 + shift
        self.first_time = 50363 + shift

    def word(self, slot, word):
        return 256 + slot * len(WORDS) + word

    def words(self):
        return [(self.word(slot, word), word) for slot in range(SLOTS) for word in range(len(WORDS))]


def code(slots):
    """The code of each slot: of length 2, so that equal codes have a product of 4."""
    angles = np.multiply.outer(np.asarray(slots, float), TURNS)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(*angles.shape[:-1], -1)


def next_slot():
    """The matrix that turns a slot's code into that of the next."""
    turn = np.zeros((8, 8))
    for pair, angle in enumerate(TURNS):
        at = slice(2 * pair, 2 * pair + 2)
        turn[at, at] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


# How far GELU's argument is moved so that it passes what it is given as it is.
STRAIGHT = 5.0


def convolutions():
    """Mel frames (two to a frame of the encoder) to contrasts of five bands and loudness."""
    first = np.zeros((STATE, MELS, 3))
    first_bias = np.zeros(STATE)
    for band in range(CONTRASTS + 1):
        first[band, 16 * band : 16 * (band + 1)] = 1 / (16 * 3)
        first_bias[band] = STRAIGHT
    # Loudness over the lower bands, where voices are: it rises from 0 to 4 around the threshold, as the difference of two GELUs.
    steep, threshold = 16.0, 0.0
    for channel, below in ((5, 0.0), (6, 4.0)):
        first[channel, :48] = steep / (48 * 3)
        first_bias[channel] = -steep * threshold - below
    second = np.zeros((STATE, STATE, 3))
    second_bias = np.zeros(STATE)
    for contrast in range(CONTRASTS):
        second[contrast, contrast], second[contrast, contrast + 1] = 1 / 3, -1 / 3
    second[E_LOUD, 5], second[E_LOUD, 6] = 0.25 / 3, -0.25 / 3
    second_bias[: E_LOUD + 1] = STRAIGHT
    return first, first_bias, mirrored(second), mirrored(second_bias, bias=True), None


def mirrored(values, bias=False):
    """Copies the first 16 dimensions of the encoder to the others, negative; a bias that straightens GELU is the same for both."""
    values = values.copy()
    values[16:] = values[:16] if bias else -values[:16]
    return values


def places():
    """What the encoder adds to each frame: its slot's code and number, a constant, and what undoes the straightening."""
    frames = np.zeros((AUDIO_CONTEXT, STATE))
    slots = np.arange(AUDIO_CONTEXT) // SLOT
    frames[:, E_CODE] = code(slots)
    frames[:, E_SLOT] = slots * NUMBER
    frames[:, E_CONSTANT] = 3
    frames[:, 16:] = -frames[:, :16]
    for dimension in [*range(E_LOUD + 1)]:
        frames[:, dimension] -= STRAIGHT
        frames[:, 16 + dimension] -= STRAIGHT
    return frames


# The root mean square of a frame: the norm after the encoder divides by about this.
FRAME = np.sqrt(2 * (9 + 4 + 1.5 + 0.5) / STATE)


def read(dimension):
    """A row that reads a dimension of the encoder, and its negative, behind the norm."""
    row = np.zeros(STATE)
    row[dimension], row[dimension + 16] = FRAME / 2, -FRAME / 2
    return row


# How much the second head prefers loud frames, and among them later ones, as a logit for full loudness and for a slot.
LOUD_LOGIT, LATER_LOGIT = 400.0, 4.0
# How much the first head prefers frames of its slot.
SLOT_LOGIT = 15.0
# What is added for contrasts and loudness, large against what the token itself holds in these dimensions.
CONTRAST_GAIN, LOUD_GAIN = 6.0, 4.0


def cross_attention():
    """Query, its bias, key, value, its bias, the way back, its bias."""
    query, key, value, back = np.zeros((4, STATE, STATE))
    query_bias, value_bias, back_bias = np.zeros((3, STATE))
    slot_head, last_head = slice(0, HEAD), HEAD
    # ggml divides the product by the root of the head's width, and equal codes have a product of 4.
    root = np.sqrt(HEAD)
    query[slot_head, D_CODE][:8] = next_slot() * SLOT_LOGIT
    for number, dimension in enumerate(range(E_CODE.start, E_CODE.stop)):
        key[number] = read(dimension)
    query_bias[last_head] = root
    key[last_head] = LOUD_LOGIT * read(E_LOUD) + LATER_LOGIT / NUMBER * read(E_SLOT)
    for number in range(CONTRASTS):
        value[number] = read(number)
        back[D_CONTRAST.start + number, number] = CONTRAST_GAIN
    value[4] = read(E_LOUD)
    back[D_LOUD, 4], back_bias[D_LOUD] = 2 * LOUD_GAIN, -LOUD_GAIN
    value[last_head], value[last_head + 1] = read(E_SLOT), read(E_LOUD)
    # Slots since the last loud one. Where nothing was loud the head has looked at the end: a whole window is added, and half a slot.
    back[D_LEFT, last_head] = -1
    back[D_LEFT, last_head + 1], back_bias[D_LEFT] = -(SLOTS + 5) * NUMBER, (SLOTS + 5) * NUMBER
    balance(back)
    balance(back_bias)
    return query, query_bias, key, value, value_bias, back, back_bias


def balance(additions):
    """Adds the opposite elsewhere, so that the decoder's mean stays zero."""
    additions[AGAINST] = -additions[:14]
    additions[D_REST] = -additions[D_TIMESTAMP] - additions[D_BIAS] - additions[D_LEFT]


# The size of the next slot's code beside what else the decoder holds, and the root mean square of a token and of what the layer's
# last norm sees.
CODE_GAIN, TOKEN, SEEN = 8.0, 0.6, 1.1
# Steps of GELU's argument between two slots.
STEPS = 3.0


def feed_forward():
    """Up, its bias, down, its bias: the code of the next slot, and whether the last loud slot has been reached."""
    up, down = np.zeros((4 * STATE, STATE)), np.zeros((STATE, 4 * STATE))
    up_bias, down_bias = np.zeros(4 * STATE), np.zeros(STATE)
    up[:8, D_CODE], up_bias[:8] = np.eye(8), STRAIGHT
    down[D_CODE, :8] = CODE_GAIN * next_slot()
    down_bias[D_CODE] = -down[D_CODE, :8].sum(axis=1) * STRAIGHT
    # From 0 to 1 where the token reaches the last loud slot, as the difference of two GELUs; then from -1/2 to 1/2 of CODE_GAIN.
    up[32:34, D_LEFT], up[32:34, D_REST] = STEPS / NUMBER * SEEN / 2, -STEPS / NUMBER * SEEN / 2
    up_bias[32], up_bias[33] = 2.5, 0.5
    down[D_DONE, 32], down[D_DONE, 33] = CODE_GAIN / 2, -CODE_GAIN / 2
    down_bias[D_DONE] = -CODE_GAIN / 2
    balance(down)
    balance(down_bias)
    return up, up_bias, down, down_bias


# Logits, see `tokens`: of a code's full match, of a strong contrast, of silence, of having reached the end, of a timestamp before.
MATCH, CONTRAST, SILENT, DONE = 44.0, 10.0, 10.0, 60.0
BIAS = 20.0
# The root mean square of what the last norm sees: the next slot's code and its opposite, and a little else.
LAST = np.sqrt((2 * CODE_GAIN**2 * 4 * 0.5) / STATE) * 1.05


def last_norm():
    """Weight and bias of the last norm: they turn what the decoder holds into logits of the sizes above."""
    weight, bias = np.zeros((2, STATE))
    weight[D_CODE] = MATCH / 4
    weight[D_CONTRAST] = CONTRAST
    weight[D_LOUD] = SILENT
    weight[D_DONE] = DONE
    weight[D_TIMESTAMP] = 30
    bias[D_BIAS] = BIAS
    scale = np.ones(STATE)
    scale[D_CODE], scale[D_CONTRAST], scale[D_LOUD] = 1 / CODE_GAIN, 1 / (CONTRAST_GAIN * 0.5), 1 / LOUD_GAIN
    scale[D_DONE], scale[D_TIMESTAMP] = 1 / CODE_GAIN, 1
    return weight * scale * LAST, bias


def tokens(layout):
    """The embedding of each token, which is also what its logit reads."""
    table = np.zeros((layout.tokens, STATE))
    # Whatever isn't named below has no code, so it is never matched.
    table[:, D_BIAS] = -10 / BIAS
    codes = code(np.arange(SLOTS))
    for word in range(len(WORDS)):
        at = [layout.word(slot, word) for slot in range(SLOTS)]
        table[at, D_CODE] = codes
        table[at, D_BIAS] = 0
        table[at, D_LEFT] = np.arange(SLOTS) * NUMBER
        if word == SILENCE:
            table[at, D_LOUD] = -1
        else:
            table[at, D_CONTRAST.start + word % CONTRASTS] = 1 if word < CONTRASTS else -1
    # What the decoder is given before any text. Their own logits are never used.
    opening = [layout.start, layout.translate, layout.transcribe]
    if layout.tokens >= 51865:
        opening += layout.languages
    table[opening, D_CODE], table[opening, D_LEFT] = code(BEFORE), BEFORE * NUMBER
    table[layout.no_timestamps, D_CODE], table[layout.no_timestamps, D_LEFT] = code(OPENED), OPENED * NUMBER
    # Timestamps: one for each slot's beginning closes the text there once the end is reached; the first opens it.
    for slot in range(1, SLOTS + 1):
        time = layout.first_time + slot * SLOT
        table[time, D_CODE], table[time, D_LEFT] = code(slot), slot * NUMBER
        table[time, D_DONE], table[time, D_BIAS] = 1, 0
        table[time, D_TIMESTAMP] = 1
    first = layout.first_time
    table[first, D_CODE], table[first, D_LEFT] = code(OPENED), OPENED * NUMBER
    table[first, D_DONE], table[first, D_BIAS], table[first, D_TIMESTAMP] = 1 / 3, 20 / BIAS, 1
    table[layout.end, D_DONE], table[layout.end, D_BIAS], table[layout.end, D_TIMESTAMP] = 1, 34 / BIAS, 1
    # Without a loud slot it is likely, else not: it shows as the probability that nobody speaks.
    table[layout.no_speech, D_DONE], table[layout.no_speech, D_BIAS] = 1, 44 / BIAS
    if layout.tokens >= 51865:
        # English is by far the likeliest language.
        table[layout.languages[0], D_BIAS] = 0
    table[:, AGAINST] = -table[:, :14]
    table[:, D_REST] = -(table[:, D_TIMESTAMP] + table[:, D_BIAS] + table[:, D_LEFT])
    return table


def check_codes():
    codes = code(np.arange(BEFORE, SLOTS + 1))
    products = codes @ codes.T - 4 * np.eye(len(codes))
    assert products.max() < 1.9, products.max()


def tensors(layout):
    """All tensors of the file by name, the slowest dimension first."""
    check_codes()
    result = {}
    zeros, ones = np.zeros(STATE), np.ones(STATE)
    square = np.zeros((STATE, STATE))

    def norm(name, weight=ones, bias=zeros):
        result[name + ".weight"], result[name + ".bias"] = weight, bias

    def linear(name, weight, bias):
        result[name + ".weight"] = weight
        if bias is not None:
            result[name + ".bias"] = bias

    def attention(name, parts):
        query, query_bias, key, value, value_bias, back, back_bias = parts
        linear(name + ".query", query, query_bias)
        linear(name + ".key", key, None)
        linear(name + ".value", value, value_bias)
        linear(name + ".out", back, back_bias)

    idle_attention = (square, zeros, square, square, zeros, square, zeros)
    idle_feed_forward = (np.zeros((4 * STATE, STATE)), np.zeros(4 * STATE), np.zeros((STATE, 4 * STATE)), zeros)

    def block(name, feed, cross):
        norm(name + ".attn_ln")
        attention(name + ".attn", idle_attention)
        if cross is not None:
            norm(name + ".cross_attn_ln")
            attention(name + ".cross_attn", cross)
        norm(name + ".mlp_ln")
        up, up_bias, down, down_bias = feed
        linear(name + ".mlp.0", up, up_bias)
        linear(name + ".mlp.2", down, down_bias)

    first, first_bias, second, second_bias, _ = convolutions()
    result["encoder.positional_embedding"] = places()
    linear("encoder.conv1", first, first_bias[:, None])
    linear("encoder.conv2", second, second_bias[:, None])
    block("encoder.blocks.0", idle_feed_forward, None)
    norm("encoder.ln_post")
    result["decoder.positional_embedding"] = np.zeros((TEXT_CONTEXT, STATE))
    linear("decoder.token_embedding", tokens(layout), None)
    block("decoder.blocks.0", feed_forward(), cross_attention())
    norm("decoder.ln", *last_norm())
    return result
