"""Aligns the tokens of two tokenizers by the bytes of the text."""

import numpy as np


def align(teacher_offsets, student_offsets, *, boundaries=None):
    """The chunk of each token (ALM): both sides' tokens between common cuts.

    A cut is a byte at which no token of either side goes on and a token of
    both ends. The tokens between two cuts next to each other are a chunk: on
    both sides the same bytes.

    Args:
        teacher_offsets: first byte of each token and the one after its last,
            integers of shape `(tokens, 2)`; see `OffsetTokenizer.encode`.
        student_offsets: likewise.
        boundaries: the bytes at which chunks may end, such as the ends of
            words; anywhere by default.

    Returns:
        The number of each token's chunk, from 0 on, int32 arrays of shape
        `(tokens,)` of teacher and student; -1 for tokens of no bytes, and for
        those that the other side lacks.

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
    """The bytes at which a token ends and none goes on."""
    starts, ends = np.sort(offsets[offsets[:, 1] > offsets[:, 0]].T, axis=-1)
    cuts = np.unique(ends)
    begun = np.searchsorted(starts, cuts, side="left")
    ended = np.searchsorted(ends, cuts, side="right")
    return cuts[begun == ended]


def _between(cuts, offsets):
    """The number of the cut that ends what each token is in, or -1."""
    numbers = np.searchsorted(cuts, offsets[:, 1])
    empty = offsets[:, 1] <= offsets[:, 0]
    return np.where(empty | (numbers == len(cuts)), -1, numbers)


def _numbered(common, numbers):
    """The same without gaps; -1 for those that are not common."""
    found = np.searchsorted(common, numbers)
    return np.where(np.isin(numbers, common), found, -1).astype("int32")


def word_ends(text):
    """The bytes of a text before a space, and its end."""
    ends = [len(text[:n].encode()) for n, c in enumerate(text) if c.isspace()]
    return np.array([*ends, len(text.encode())])
