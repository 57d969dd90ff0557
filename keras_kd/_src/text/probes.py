"""Checks that two tokenizers have the same ids, up to added tokens."""

from keras_kd._src.text.offsets import as_offset_tokenizer

# Texts on which related tokenizers differ: digits, spaces, code, scripts.
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "It's 1234567890 and 3.14, or -5e-10; 7 8 90 123456.",
    "  two  spaces,\ttabs\t\tand\n\nnew lines \r\n at the end   ",
    "def f(x_1, *args):\n    return {'a': [x_1 != 0, not x_1]}  # TODO\n",
    '<a href="https://example.org/?q=1&r=2">x</a> \\n $x^2_{i}$ @user #tag',
    "Crème brûlée, naïve café, Åse, Übermaß, cafe\u0301, Ærø, żółć",
    "Привет, мир! Γειά σου. שלום. مرحبا بالعالم. नमस्ते दुनिया",
    "你好，世界。こんにちは世界、カタカナ。안녕하세요 ภาษาไทย",
    "😀👍🏽👩‍👩‍👧 🇫🇷 — “quotes” … ½ ﬁ \u200b\u00a0 ①",
)


def check_same_ids(teacher_tokenizer, student_tokenizer, texts=()):
    """Checks that two tokenizers give the same ids, and counts shared ids.

    Call it before training language models with soft targets or another loss
    on logits: a vocabulary may be padded, or extended for the student, but an
    id must be of the same token in both. Pass the result to the loss, as in
    `keras_kd.losses.SoftTargets(classes=...)`.

    Args:
        teacher_tokenizer: a tokenizer of KerasHub, a `tokenizers.Tokenizer`,
            a fast tokenizer of transformers, or an `OffsetTokenizer`.
        student_tokenizer: a tokenizer of one of these kinds.
        texts: list of texts to try besides the built-in ones (words, digits,
            spaces, code, accents, other scripts, emoji), such as some of the
            data's.

    Returns:
        Integer, how many ids both tokenizers share, counted from 0.

    Raises:
        ValueError: the ids of a text differ, or an id is of another token.

    Example:
    >>> class Bytes:  # Works like `keras_hub.tokenizers.ByteTokenizer`.
    ...     def tokenize(self, text):
    ...         return list(text.encode())
    ...     def id_to_token(self, id):
    ...         return chr(id)
    ...     def vocabulary_size(self):
    ...         return 256
    >>> check_same_ids(Bytes(), Bytes())
    256
    """
    teacher = as_offset_tokenizer(teacher_tokenizer)
    student = as_offset_tokenizer(student_tokenizer)
    largest = -1
    for text in (*PROBES, *texts):
        ids = teacher.ids(text), student.ids(text)
        if ids[0] != ids[1]:
            raise _different(text, *ids)
        largest = max([largest, *ids[0]])
    size = min(teacher.vocabulary_size, student.vocabulary_size)
    for number in range(size):
        tokens = teacher.token(number), student.token(number)
        if tokens[0] != tokens[1]:
            if number <= largest:
                raise _other_token(number, *tokens)
            return number
    return size


WAYS = (
    "They are two tokenizers: distil by `keras_kd.losses.UniversalLogit` "
    "(ULD) or `keras_kd.losses.LikelihoodMatching` (ALM)."
)


def _different(text, teacher, student):
    pairs = zip(teacher, student)
    both = min(len(teacher), len(student))
    first = next((n for n, (a, b) in enumerate(pairs) if a != b), both)
    shown = slice(first, first + 5)
    return ValueError(
        "The tokenizers must give the same ids for the same text. Received: "
        f"text={text!r}, whose ids differ from token {first} on: teacher "
        f"{teacher[shown]}, student {student[shown]}. {WAYS}"
    )


def _other_token(number, teacher, student):
    return ValueError(
        "An id must be of the same token in both tokenizers. Received: id "
        f"{number}, which is {teacher!r} in the teacher's tokenizer and "
        f"{student!r} in the student's. {WAYS}"
    )
