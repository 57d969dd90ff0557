"""Texts of language models: generating them, and pairing two tokenizers."""

from keras_kd._src.text.alignment import align
from keras_kd._src.text.generate_responses import generate_responses
from keras_kd._src.text.generated_texts import GeneratedTexts
from keras_kd._src.text.offsets import OffsetTokenizer
from keras_kd._src.text.paired_texts import PairedTexts
from keras_kd._src.text.probes import check_same_ids

__all__ = [
    "GeneratedTexts",
    "OffsetTokenizer",
    "PairedTexts",
    "align",
    "check_same_ids",
    "generate_responses",
]


def __dir__():
    return __all__
