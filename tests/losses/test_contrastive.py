"""Contrastive representation distillation, against NumPy and in a fit."""

import keras
import numpy as np
import pytest
from battery import every_check
from battery import random_features
from battery import scaled
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy
from support import weights_of

import keras_kd as kd
from keras_kd.losses import ContrastiveRepresentation
from keras_kd.testing import LossCase


def info_nce(temperature):
    def values(teacher, student):
        result = []
        for i in range(len(student)):
            losses = []
            for anchors, others in ((student, teacher), (teacher, student)):
                scores = [
                    anchors[i]
                    @ other
                    / np.linalg.norm(anchors[i])
                    / np.linalg.norm(other)
                    / temperature
                    for other in others
                ]
                losses.append(np.log(np.sum(np.exp(scores))) - scores[i])
            result.append(np.mean(losses))
        return np.array(result)

    return values


def rotated(array):
    """Both sides' common rotation is tested below; one side's changes all."""
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    return (array @ rotation).astype("float32")


CASES = {
    "contrastive": LossCase(
        ContrastiveRepresentation,
        *random_features((4,), (4,)),
        reference=info_nce(0.07),
        identical=None,  # the least value is at no finite features
        invariances=(scaled,),
    ),
    "contrastive_warm": LossCase(
        lambda **kwargs: ContrastiveRepresentation(temperature=0.5, **kwargs),
        *random_features((4,), (4,), seed=1),
        reference=info_nce(0.5),
        identical=None,
        invariances=(scaled,),
    ),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


def test_a_common_rotation_changes_nothing():
    case = CASES["contrastive"]
    both = case.change(rotated, "teacher", "student")
    assert case.value(case.make()) == pytest.approx(both.value(case.make()))


def test_one_sample_has_nothing_to_tell_from():
    case = CASES["contrastive"].take(slice(1))
    assert case.value(case.make()) == pytest.approx(0.0, abs=1e-5)


def test_orthogonal_embeddings_in_place_are_best():
    right = np.eye(6, dtype="float32")
    loss = ContrastiveRepresentation()
    assert float(numpy(loss(right, right))) < 1e-5
    assert float(numpy(loss(right, right[::-1].copy()))) > 10.0


def test_both_projections_are_trained():
    teacher = functional_model(8, name="teacher")
    distiller = kd.Distiller(
        teacher,
        functional_model(4, name="student"),
        [
            kd.Transfer(
                ContrastiveRepresentation(),
                teacher="pool",
                student="pool",
                adapter=keras.layers.Dense(8),
                teacher_adapter=keras.layers.Dense(8),
                weight=0.8,
            )
        ],
    )
    distiller.compile("adam", cross_entropy())
    (transfer,) = distiller.transfers
    sides = transfer.adapters + transfer.teacher_adapters
    before = [weights_of(side) for side in sides]
    teacher_before = weights_of(teacher)
    x, y = data()
    history = distiller.fit(x, y, batch_size=12, epochs=5, verbose=0).history
    for side, old in zip(sides, before):
        assert np.any(old[0] != weights_of(side)[0])
    for old, new in zip(teacher_before, weights_of(teacher)):
        np.testing.assert_array_equal(old, new)
    terms = history["contrastive_representation_loss"]
    assert terms[-1] < terms[0]


def test_teacher_adapters_are_saved(tmp_path):
    def distiller():
        return kd.Distiller(
            teacher,
            functional_model(4, name="student"),
            [
                kd.Transfer(
                    ContrastiveRepresentation(),
                    teacher="pool",
                    student="pool",
                    adapter=keras.layers.Dense(8),
                    teacher_adapter=keras.layers.Dense(8),
                )
            ],
        )

    teacher = functional_model(8, name="teacher")
    first = distiller()
    first.compile("adam", cross_entropy())
    x, y = data()
    first.fit(x, y, verbose=0)
    first.save(tmp_path / "d.keras")
    loaded = keras.saving.load_model(tmp_path / "d.keras")
    loaded.set_teacher(teacher)
    assert first.evaluate(x, y, verbose=0) == pytest.approx(
        loaded.evaluate(x, y, verbose=0)
    )


@pytest.mark.one_backend
def test_shapes_that_do_not_compare():
    loss = ContrastiveRepresentation()
    for shapes in (((4, 8), (4, 6)), ((4, 2, 8), (4, 2, 8))):
        with pytest.raises(ValueError, match="Received.*Dense"):
            loss.check_shapes(*shapes)
    with pytest.raises(ValueError, match="`temperature` must be"):
        ContrastiveRepresentation(temperature=0.0)
