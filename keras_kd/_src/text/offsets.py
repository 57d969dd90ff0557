"""The byte offsets of tokens in a text, for any tokenizer."""

import functools
import unicodedata

import keras
import numpy as np


class OffsetTokenizer:
    """A tokenizer that also returns the byte offsets of its tokens.

    Different tokenizers share only the bytes of a text, so their tokens are
    aligned by byte offsets. It wraps

    - KerasHub's tokenizers, which give no offsets. These are computed from the
      tokens (byte-level BPE as in GPT-2, Llama 3 and Qwen, SentencePiece,
      WordPiece, bytes, characters), and checked: the tokens must add up to the
      text;
    - a `tokenizers.Tokenizer` of Hugging Face, or a fast tokenizer of
      transformers; where the tokens don't add up to the text, its own offsets
      are used.

    Args:
        tokenizer: the tokenizer. Its package is not imported.
        start_id: integer, the id that begins a text; False for none. By
            default the tokenizer's own, if it has one.
        end_id: the id that ends a text, in the same way.
        pad_id: the id of padding; by default the tokenizer's own, or else 0.

    Raises:
        ValueError: the tokenizer is of another kind, without offsets.

    Example:
    >>> class Bytes:  # Works like `keras_hub.tokenizers.ByteTokenizer`.
    ...     def tokenize(self, text):
    ...         return list(text.encode())
    ...     def id_to_token(self, id):
    ...         return chr(id)
    >>> ids, offsets = OffsetTokenizer(Bytes()).encode("hi")
    >>> ids.tolist(), offsets.tolist()
    ([104, 105], [[0, 1], [1, 2]])
    """

    def __init__(self, tokenizer, *, start_id=None, end_id=None, pad_id=None):
        self.tokenizer = tokenizer
        # Fast tokenizers of transformers wrap this one.
        fast = getattr(tokenizer, "backend_tokenizer", None)
        self._encoder = tokenizer if fast is None else fast
        self._has_offsets = hasattr(self._encoder, "encode_batch")
        kept = hasattr(tokenizer, "tokenize") and hasattr(
            tokenizer, "id_to_token"
        )
        if not (self._has_offsets or kept):
            raise ValueError(
                "Argument `tokenizer` must be a tokenizer of KerasHub, a "
                "`tokenizers.Tokenizer` or a fast tokenizer of transformers: "
                "others have no offsets. Received: "
                f"tokenizer={tokenizer!r} (of type {type(tokenizer).__name__})."
            )
        self.start_id = _special(tokenizer, start_id, "start", "bos")
        self.end_id = _special(tokenizer, end_id, "end", "eos")
        self.pad_id = _special(tokenizer, pad_id, "pad", "pad") or 0
        self._token_of = functools.cache(self._encoder.id_to_token)

    def ids(self, text):
        """The ids of a text, as a list without special tokens."""
        return self._encoded(text)[0]

    def encode(self, text):
        """The ids of a text, and the byte offsets of its tokens.

        Args:
            text: a string.

        Returns:
            `(ids, offsets)`, int32 NumPy arrays without special tokens: ids of
            shape `(tokens,)`; and of shape `(tokens, 2)` each token's first
            byte, and the byte after its last, in UTF-8.

        Raises:
            ValueError: the tokens don't add up to the text.
        """
        ids, spans = self._encoded(text)
        tokens = [self._token_of(number) for number in ids]
        offsets = offsets_of(text, tokens)
        if offsets is None and spans is not None:
            offsets = _in_bytes(text, spans)
        if offsets is None:
            raise ValueError(
                f"The tokens of {type(self.tokenizer).__name__} don't add up "
                "to the text, so their offsets are not known. Received: "
                f"text={text[:80]!r}, tokens={tokens[:20]}. Unknown "
                "characters and normalization are the usual causes: leave out "
                "such texts, or take a tokenizer of bytes or byte-level BPE, "
                "or a `tokenizers.Tokenizer`, which has offsets of its own."
            )
        ids = np.array(ids, dtype="int32")
        return ids, np.array(offsets, dtype="int32").reshape(-1, 2)

    def _encoded(self, text):
        """The ids of a text, and spans of characters or None."""
        if self._has_offsets:
            found = self._encoder.encode(text, add_special_tokens=False)
            # Each attribute is a new list every time it is read.
            tokens = zip(found.ids, found.offsets, found.attention_mask)
            tokens = [token for token in tokens if token[2]]
            return [each[0] for each in tokens], [each[1] for each in tokens]
        ids = self.tokenizer.tokenize(text)
        if not isinstance(ids, list):
            ids = keras.ops.convert_to_numpy(ids).tolist()
        return ids, None

    def token(self, number):
        """The text of a token by its id, or None if there is no such id."""
        try:
            return self._token_of(number)
        except (ValueError, IndexError, OverflowError):
            return None

    @property
    def vocabulary_size(self):
        """How many ids the tokenizer has."""
        if self._has_offsets:
            return self._encoder.get_vocab_size()
        return self.tokenizer.vocabulary_size()


def _special(tokenizer, given, name, other_name):
    """The id that was given, or else the tokenizer's; None if there is none."""
    if given is False:
        return None
    if given is not None:
        return int(given)
    names = f"{name}_token_id", f"{other_name}_token_id"
    found = (getattr(tokenizer, each, None) for each in names)
    return next((int(each) for each in found if each is not None), None)


def as_offset_tokenizer(tokenizer):
    """The tokenizer as an `OffsetTokenizer`."""
    if isinstance(tokenizer, OffsetTokenizer):
        return tokenizer
    return OffsetTokenizer(tokenizer)


def offsets_of(text, tokens):
    """First and last byte (exclusive) of each token, or None if unknown.

    Tokenizers write bytes in different ways. The one in which the tokens add
    up to the text gives the right offsets.
    """
    whole = text.encode()
    for pieces in _readings(tokens):
        if pieces is None:
            continue
        joined = b"".join(pieces)
        if joined == whole:
            return _cumulated(pieces)
        if joined == b" " + whole:  # SentencePiece puts a space first.
            spans = _cumulated(pieces)
            return [(max(a - 1, 0), max(b - 1, 0)) for a, b in spans]
    return _matched(text, tokens)


def _readings(tokens):
    """Yields the tokens' bytes as each kind of tokenizer writes them."""
    yield _each(tokens, _of_byte_level)
    yield _each(tokens, lambda token: token.encode("latin-1"))
    yield _each(tokens, _of_sentence_piece)


def _each(tokens, read):
    try:
        return [read(token) for token in tokens]
    except (KeyError, UnicodeEncodeError):
        return None


@functools.cache
def _byte_alphabet():
    """The characters of byte-level BPE, one for each byte."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printed]
    alphabet = {chr(byte): byte for byte in printed}
    return {**alphabet, **{chr(256 + n): b for n, b in enumerate(hidden)}}


def _of_byte_level(token):
    alphabet = _byte_alphabet()
    return bytes(alphabet[character] for character in token)


def _of_sentence_piece(token):
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()


def _cumulated(pieces):
    ends = np.cumsum([len(piece) for piece in pieces], dtype=int).tolist()
    return list(zip([0, *ends], ends))


def _matched(text, tokens):
    """Offsets of tokens without the spaces between them, as in WordPiece."""
    characters = list(_plain_characters(text))
    plain = "".join(character for character, _ in characters)
    spans, cursor = [], 0
    for token in tokens:
        token = token.removeprefix("##").replace("\u2581", " ").strip()
        piece = "".join(each for each, _ in _plain_characters(token))
        while plain[cursor : cursor + 1].isspace():
            cursor += 1
        if not plain.startswith(piece, cursor):
            return None
        stop = cursor + len(piece)
        within = [span for _, span in characters[cursor:stop]]
        here = within[-1][1] if within else (spans[-1][1] if spans else 0)
        spans.append((within[0][0] if within else here, here))
        cursor = stop
    return None if plain[cursor:].strip() else spans


def _plain_characters(text):
    """Characters without case and accents, with their spans in bytes."""
    begin = 0
    for character in text:
        end = begin + len(character.encode())
        for plain in unicodedata.normalize("NFD", character).casefold():
            if unicodedata.category(plain) != "Mn":
                yield plain, (begin, end)
        begin = end


def _in_bytes(text, spans):
    """Spans of characters as spans of bytes; None if there are none."""
    if text.strip() and not any(stop > start for start, stop in spans):
        return None
    ends = np.cumsum([0, *(len(each.encode()) for each in text)]).tolist()
    return [(ends[start], ends[stop]) for start, stop in spans]
