"""Where tokens stand in a text, for each kind of tokenizer."""

import numpy as np
import pytest

from keras_kd.text import OffsetTokenizer

pytestmark = pytest.mark.one_backend
keras_hub = pytest.importorskip("keras_hub")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("sentencepiece")

from tokenizers_of_texts import ODD  # noqa: E402
from tokenizers_of_texts import byte_level  # noqa: E402
from tokenizers_of_texts import gpt2  # noqa: E402
from tokenizers_of_texts import sentence_piece  # noqa: E402
from tokenizers_of_texts import word_piece  # noqa: E402


def pieces(tokenizer, text):
    """The bytes of each token, by its offsets."""
    ids, offsets = OffsetTokenizer(tokenizer).encode(text)
    assert len(ids) == len(offsets)
    return [text.encode()[start:stop] for start, stop in offsets]


def test_tokens_of_byte_level_bpe():
    text = "the cat 猫"
    # The character of three bytes is three tokens.
    expected = [b"the", b" ", b"cat", b" ", b"\xe7", b"\x8c", b"\xab"]
    found = pieces(byte_level(), text)
    assert found[0] == b"the"
    assert found[-3:] == expected[-3:]
    assert found == pieces(gpt2(), text)
    for tokenizer in (byte_level(), gpt2()):
        assert b"".join(pieces(tokenizer, ODD)) == ODD.encode()


def test_tokens_without_the_space_that_they_begin_with():
    """Hugging Face's own offsets leave it out; a byte of a text is none's."""
    tokenizer = byte_level()
    plain = pieces(tokenizer, ODD)
    tokenizer.post_processor = tokenizers.processors.ByteLevel(
        trim_offsets=True
    )
    assert pieces(tokenizer, ODD) == plain


def test_a_fast_tokenizer_of_transformers():
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level(),
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )
    assert pieces(fast, ODD) == pieces(byte_level(), ODD)
    made = OffsetTokenizer(fast)
    assert (made.start_id, made.end_id, made.pad_id) == (0, 0, 0)
    assert made.vocabulary_size == 280


def test_bytes():
    tokenizer = keras_hub.tokenizers.ByteTokenizer()
    found = pieces(tokenizer, ODD)
    assert found == [bytes([byte]) for byte in ODD.encode()]


def test_characters():
    tokenizer = keras_hub.tokenizers.UnicodeCodepointTokenizer(
        vocabulary_size=2**17
    )
    assert pieces(tokenizer, ODD) == [each.encode() for each in ODD]


def test_sentence_piece():
    """A space is put before the text; unknown characters are bytes."""
    tokenizer = sentence_piece(normalization_rule_name="identity")
    text = "the naïve cat 猫"
    found = pieces(tokenizer, text)
    assert b"".join(found) == text.encode()
    assert found[0].startswith(b"t")
    assert found[-3:] == [b"\xe7", b"\x8c", b"\xab"]
    # Spaces that were merged into one: of no token.
    found = pieces(tokenizer, "the  cat")
    assert b"".join(found).replace(b" ", b"") == b"thecat"


def test_word_piece():
    text = "The naïve Café.\n sunny cat"
    expected = ["The", "naïve", "Café", ".", "sun", "ny", "ca", "t"]
    assert pieces(word_piece(), text) == [each.encode() for each in expected]


def test_offsets_of_characters():
    """As Hugging Face has them, where tokens don't add up to the text."""
    words = {"[UNK]": 0, "naive": 1, "cat": 2}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(words, unk_token="[UNK]")
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_padding(length=8)
    text = "Naïve 猫猫 cat"
    found = pieces(tokenizer, text)
    assert found == [each.encode() for each in ("Naïve", "猫", "猫", "cat")]


def test_special_ids():
    made = OffsetTokenizer(gpt2())
    assert (made.start_id, made.end_id, made.pad_id) == (0, 0, 0)
    made = OffsetTokenizer(gpt2(), start_id=False, end_id=7, pad_id=5)
    assert (made.start_id, made.end_id, made.pad_id) == (None, 7, 5)
    ids, _ = made.encode("the cat")
    assert ids.dtype == "int32"
    assert np.array_equal(ids, made.ids("the cat"))


def test_no_tokens():
    ids, offsets = OffsetTokenizer(byte_level()).encode("")
    assert ids.shape == (0,)
    assert offsets.shape == (0, 2)


def test_tokens_that_do_not_add_up():
    message = r"WordPieceTokenizer don't add up.*text='the dog'.*'\[UNK\]'"
    with pytest.raises(ValueError, match=message):
        OffsetTokenizer(word_piece()).encode("the dog")


def test_a_tokenizer_without_offsets():
    class Slow:
        def encode(self, text):
            return [1, 2]

    with pytest.raises(ValueError, match="KerasHub.*fast.*Received.*Slow"):
        OffsetTokenizer(Slow())
