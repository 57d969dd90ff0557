"""Language models' texts: data that the student or the teacher writes."""

from keras_kd._src.text.generate_responses import generate_responses
from keras_kd._src.text.generated_texts import GeneratedTexts

__all__ = [
    "GeneratedTexts",
    "generate_responses",
]


def __dir__():
    return __all__
