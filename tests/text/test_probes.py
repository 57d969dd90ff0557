"""Two tokenizers are the same, but for what was added at the end."""

import json

import pytest

from keras_kd.text import check_same_ids

pytestmark = pytest.mark.one_backend
pytest.importorskip("keras_hub")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("sentencepiece")

from tokenizers_of_texts import byte_level  # noqa: E402
from tokenizers_of_texts import gpt2  # noqa: E402
from tokenizers_of_texts import sentence_piece  # noqa: E402


def extended(*tokens):
    made = byte_level()
    made.add_special_tokens(list(tokens))
    return made


def test_shared_ids():
    """Of one tokenizer, in two libraries, and with tokens added."""
    assert check_same_ids(byte_level(), gpt2()) == 280
    assert check_same_ids(byte_level(), extended("<tool>", "<pad>")) == 280
    # Of what both have added, the first is another one.
    assert check_same_ids(extended("<a>", "<b>"), extended("<a>", "<c>")) == 281


def test_other_merges():
    with pytest.raises(ValueError) as error:
        check_same_ids(byte_level(), byte_level(270))
    message = str(error.value)
    assert "ids differ from token" in message
    assert "Received: text='The quick brown fox" in message
    assert "UniversalLogit" in message
    assert "LikelihoodMatching" in message
    with pytest.raises(ValueError, match="same ids"):
        check_same_ids(gpt2(), sentence_piece())


def test_texts_of_ones_own():
    """What the built-in texts don't distinguish."""
    content = json.loads(byte_level().to_str())
    content["model"]["vocab"]["qq"] = 280
    content["model"]["merges"].append(["q", "q"])
    merged = tokenizers.Tokenizer.from_str(json.dumps(content))
    assert check_same_ids(byte_level(), merged, ["iraq"]) == 280
    with pytest.raises(ValueError, match="text='aqq'.*token 1.*student .280"):
        check_same_ids(byte_level(), merged, ["iraq", "aqq"])


def test_an_id_of_another_token():
    content = json.loads(byte_level().to_str())
    vocab = content["model"]["vocab"]
    content["added_tokens"][0]["content"] = "<s>"
    vocab["<s>"] = vocab.pop("<|endoftext|>")
    renamed = tokenizers.Tokenizer.from_str(json.dumps(content))
    message = "is '<|endoftext|>' in the teacher's tokenizer and '<s>' in the"
    with pytest.raises(ValueError) as error:
        check_same_ids(byte_level(), renamed)
    assert message in str(error.value)
