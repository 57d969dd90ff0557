"""Small tokenizers of each kind, trained on a few words.

`pytest.importorskip` its packages before it is imported.
"""

import io
import json

import keras_hub
import sentencepiece
import tokenizers

TEXTS = [
    "the cat sat on the mat",
    "a naïve café in the sun",
    "for i in range(10): print(i)",
    "the sun sat in the café",
] * 4
# Of two, three and four bytes a character, which no merge knows.
ODD = "the naïve  cat — 猫 😀\n\tsat(10)"


def byte_level(size=280, texts=TEXTS):
    """Byte-level BPE of Hugging Face."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def gpt2(size=280, texts=TEXTS):
    """The same in KerasHub."""
    model = json.loads(byte_level(size, texts).to_str())["model"]
    merges = [" ".join(pair) for pair in model["merges"]]
    return keras_hub.models.GPT2Tokenizer(model["vocab"], merges)


def sentence_piece(**arguments):
    """KerasHub's, of single characters, pieces and bytes."""
    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=proto,
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
        **arguments,
    )
    return keras_hub.tokenizers.SentencePieceTokenizer(proto.getvalue())


def word_piece():
    words = ["[UNK]", "the", "naive", "cafe", "ca", "##t", "sun", "##ny", "."]
    return keras_hub.tokenizers.WordPieceTokenizer(
        words, lowercase=True, strip_accents=True
    )
