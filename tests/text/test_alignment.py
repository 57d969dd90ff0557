"""Chunks of tokens between the bytes at which both tokenizers cut."""

import numpy as np
import pytest

from keras_kd.text import align

pytestmark = pytest.mark.one_backend


def both(*args, **kwargs):
    return [side.tolist() for side in align(*args, **kwargs)]


def random_cuts(random, size):
    inner = np.flatnonzero(random.random(size - 1) < 0.4) + 1
    edges = [0, *inner.tolist(), size]
    return list(zip(edges, edges[1:]))


def test_chunks_of_random_cuts_are_the_same_bytes():
    random = np.random.default_rng(0)
    for _ in range(50):
        sides = [random_cuts(random, 20) for _ in range(2)]
        chunks = align(*sides)
        common = set.intersection(*({b for _, b in side} for side in sides))
        for side, numbers in zip(sides, chunks):
            # A new chunk wherever both sides have cut, and nowhere else.
            expected = [sum(cut < b for cut in common) for _, b in side]
            assert numbers.tolist() == expected


def test_tokens_of_a_part_of_a_character():
    """Hugging Face gives each of them the whole character."""
    teacher = [(0, 1), (1, 4), (1, 4), (1, 4), (4, 5)]
    student = [(0, 1), (1, 4), (4, 5)]
    assert both(teacher, student) == [[0, 1, 1, 1, 2], [0, 1, 2]]
    # No cut within what a token covers.
    student = [(0, 1), (1, 3), (3, 4), (4, 5)]
    assert both(teacher, student) == [[0, 1, 1, 1, 2], [0, 1, 1, 2]]


def test_tokens_without_a_counterpart():
    # Special tokens have no bytes; the student's text was cut.
    teacher = [(0, 0), (0, 3), (3, 6), (6, 9), (9, 9)]
    student = [(0, 2), (2, 3), (3, 5)]
    assert both(teacher, student) == [[-1, 0, -1, -1, -1], [0, 0, -1]]
    assert both([], student) == [[], [-1, -1, -1]]
    # Spaces belong to no token of WordPiece.
    teacher, student = [(0, 3), (3, 7)], [(0, 3), (4, 7)]
    assert both(teacher, student) == [[0, 1], [0, 1]]
    # A chunk of which one side has nothing: a cut there is none of its own.
    teacher, student = [(0, 3), (3, 4), (4, 7)], [(0, 3), (4, 7)]
    assert both(teacher, student) == [[0, 1, 1], [0, 1]]


def test_chunks_that_end_at_words():
    teacher = [(0, 2), (2, 4), (4, 6), (6, 9)]
    student = [(0, 2), (2, 4), (4, 9)]
    assert both(teacher, student) == [[0, 1, 2, 2], [0, 1, 2]]
    assert both(teacher, student, boundaries=[4, 9]) == [
        [0, 0, 1, 1],
        [0, 0, 1],
    ]
