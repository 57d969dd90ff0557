"""Aligns the tokens of two tokenizers by the bytes of the text."""

import numpy as np


def align(teacher_offsets, student_offsets, *, boundaries=None):
    """Aligns the tokens of two tokenizers in chunks of the same bytes (ALM).

    For losses between models with different vocabularies, such as
    `keras_kd.losses.LikelihoodMatching`. Chunks are separated by cuts: bytes
    where a token ends on both sides, and none continues. The tokens between two
    neighboring cuts are a chunk, which has the same bytes on both sides.

    Args:
        teacher_offsets: integers of shape `(tokens, 2)`: each token's first
            byte, and the byte after its last; see `OffsetTokenizer.encode`.
        student_offsets: the same for the student's tokens.
        boundaries: the bytes at which chunks may end, such as the ends of
            words; anywhere by default.

    Returns:
        Two int32 arrays of shape `(tokens,)`, of the teacher and the student:
        the number of each token's chunk, counted from 0; -1 for tokens without
        bytes, and for tokens whose bytes the other side lacks.

    Example:
    >>> teacher = [(0, 2), (2, 5), (5, 6)]
    >>> student = [(0, 1), (1, 5), (5, 6)]
    >>> chunks = align(teacher, student)
    >>> chunks[0].tolist(), chunks[1].tolist()
    ([0, 0, 1], [0, 0, 1])

    Reference: Minixhofer, Vulić and Ponti, 2025, "Universal Cross-Tokenizer
    Distillation via Approximate Likelihood Matching", arXiv 2503.20083.
    """
    sides = [
        np.asarray(each, dtype="int64").reshape(-1, 2)
        for each in (teacher_offsets, student_offsets)
    ]
    cuts = np.intersect1d(*map(_cuts, sides))
    if boundaries is not None:
        cuts = np.intersect1d(cuts, np.asarray(boundaries, dtype="int64"))
    teacher, student = (_between(cuts, side) for side in sides)
    common = np.intersect1d(teacher, student)
    common = common[common >= 0]
    return tuple(_numbered(common, each) for each in (teacher, student))


def _cuts(offsets):
    """The bytes at which a token ends and none continues."""
    starts, ends = np.sort(offsets[offsets[:, 1] > offsets[:, 0]].T, axis=-1)
    cuts = np.unique(ends)
    begun = np.searchsorted(starts, cuts, side="left")
    ended = np.searchsorted(ends, cuts, side="right")
    return cuts[begun == ended]


def _between(cuts, offsets):
    """The number of the cut that ends each token's chunk, or -1."""
    numbers = np.searchsorted(cuts, offsets[:, 1])
    empty = offsets[:, 1] <= offsets[:, 0]
    return np.where(empty | (numbers == len(cuts)), -1, numbers)


def _numbered(common, numbers):
    """Chunk numbers without gaps; -1 for chunks that are not common."""
    found = np.searchsorted(common, numbers)
    return np.where(np.isin(numbers, common), found, -1).astype("int32")


def word_ends(text):
    """The bytes at which a text's words end: before spaces, and at its end."""
    ends = [len(text[:n].encode()) for n, c in enumerate(text) if c.isspace()]
    return np.array([*ends, len(text.encode())])
