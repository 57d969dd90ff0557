"""Contrastive distillation with a memory: values, draws, rows, and a fit."""

import keras
import numpy as np
import pytest
from battery import every_check
from battery import random_features
from battery import scaled
from keras import ops
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy
from support import weights_of

import keras_kd as kd
from keras_kd.layers import MemoryBank
from keras_kd.losses import ContrastiveMemory
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close
from keras_kd.testing import finite_differences

SAMPLES, DIM = 12, 4
CLASSES = np.arange(SAMPLES, dtype="int32") % 3
# Of a case's six samples, in no order.
INDICES = np.array([7, 2, 11, 0, 5, 8], "int32")


@keras.saving.register_keras_serializable(package="keras_kd_tests")
class Indexed(ContrastiveMemory):
    """A case has labels only: here they are the sample indices."""

    def __init__(self, num_samples=SAMPLES, dim=DIM, **kwargs):
        super().__init__(num_samples, dim, **{"seed": 3, **kwargs})
        # One class was never seen.
        self.memory.classes.assign(np.where(CLASSES == 2, -1, CLASSES))

    def __call__(self, teacher, student, sample_weight=None, *, labels):
        return super().__call__(
            teacher,
            student,
            sample_weight,
            sample_index=labels,
            labels=ops.take(ops.convert_to_tensor(CLASSES), labels),
        )


def cosine_with(row, array):
    return array @ row / np.linalg.norm(array)


def probabilities(loss, teacher, student, indices):
    """exp(score) of the own row and of each draw, for both sides, by loops.

    Returns pairs `(own, [others])`, one a side and sample; others of the
    sample's own class are not there.
    """
    memory = loss.memory
    drawn = numpy(
        memory.draw(
            ops.convert_to_tensor(indices), loss.num_negatives, training=False
        )
    )
    classes = numpy(memory.classes.value)
    result = []
    for anchors, rows in (
        (student, memory.teacher_rows),
        (teacher, memory.student_rows),
    ):
        rows = numpy(rows.value).astype("float64")
        side = []
        for array, index, negatives in zip(anchors, indices, drawn):
            own, *others = (
                np.exp(cosine_with(rows[j], array) / float(loss.temperature))
                for j in [index, *negatives]
            )
            if loss.other_classes:
                mine = CLASSES[index]
                others = [
                    each
                    for each, j in zip(others, negatives)
                    if classes[j] != mine or mine < 0
                ]
            side.append((own, others))
        result.append(side)
    return result


def constants(loss, teacher, student, indices):
    """Z of both sides: negatives left out are made up for by the others."""
    m = loss.num_negatives
    return [
        loss.memory.num_samples
        * np.mean([(own + m * np.mean(o)) / (1 + m) for own, o in side])
        for side in probabilities(loss, teacher, student, indices)
    ]


def reference(loss, z):
    def values(teacher, student, labels):
        m, n = loss.num_negatives, loss.memory.num_samples
        total = np.zeros(len(student))
        sides = probabilities(loss, teacher, student, labels)
        for side, normalizer in zip(sides, z):
            for i, (own, others) in enumerate(side):
                own, others = own / normalizer, np.array(others) / normalizer
                noise = m / n
                total[i] -= np.log(own / (own + noise))
                total[i] -= m * np.mean(np.log(noise / (others + noise)))
        return total

    return values


def case(seed=0, **arguments):
    def make(**kwargs):
        # One name: losses of equal configs are compiled once.
        return Indexed(**arguments, **{"name": "indexed", **kwargs})

    teacher, student = random_features((DIM,), (DIM,), seed=seed)
    # Of the case's own features, as in the loss they are without a gradient.
    z = constants(make(), teacher, student, INDICES)
    return LossCase(
        make,
        teacher,
        student,
        labels=INDICES,
        reference=reference(make(), z),
        identical=None,  # the rows, not the other array, are what is matched
        invariances=(scaled,),
    )


CASES = {
    "memory": case(num_negatives=7),
    # Of 11 others: drawn twice or three times each.
    "memory_any_class": case(
        1, num_negatives=30, temperature=0.5, other_classes=False
    ),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


# --- the draws ---------------------------------------------------------------


def drawn(bank, indices, number, **kwargs):
    indices = ops.convert_to_tensor(np.array(indices, "int32"))
    return numpy(bank.draw(indices, number, **kwargs))


def test_others_are_drawn_uniformly_and_never_twice():
    bank, times = MemoryBank(5, 2, seed=0), 200
    counts = np.zeros((5, 5))
    for _ in range(times):
        draw = drawn(bank, range(5), 2)
        for index, others in enumerate(draw):
            assert index not in others
            assert len(set(others)) == 2
            counts[index, others] += 1
    # Each of 4 is one of 2 half of the times: five standard deviations.
    allowed = 5.0 * np.sqrt(times * 0.25)
    others = counts[~np.eye(5, dtype=bool)]
    assert np.all(np.abs(others - times / 2) < allowed)
    assert np.std(others) > 0.0


def test_more_draws_than_others():
    draw = drawn(MemoryBank(5, 2, seed=0), [1, 4], 10)
    for index, others in zip((1, 4), draw):
        counts = np.bincount(others, minlength=5)
        assert counts[index] == 0
        assert set(np.delete(counts, index)) == {2, 3}


def test_draws_differ_in_training_only():
    bank = MemoryBank(500, 2, seed=0)
    before = numpy(bank.draws.state.value).copy()
    first, second = (drawn(bank, [3], 20, training=False) for _ in "ab")
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(numpy(bank.draws.state.value), before)
    assert np.any(drawn(bank, [3], 20) != drawn(bank, [3], 20))


def test_own_class_does_not_count():
    bank = MemoryBank(6, 2)
    bank.classes.assign(np.array([0, 0, 1, 1, -1, -1], "int32"))
    negatives = ops.convert_to_tensor(
        np.array([[1, 2, 4, 1], [0, 1, 4, 5], [3, 3, 3, 3]], "int32")
    )
    share = bank.share(
        negatives, ops.convert_to_tensor(np.array([0, -1, 1], "int32"))
    )
    np.testing.assert_allclose(
        numpy(share), [[0, 2, 2, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(numpy(bank.share(negatives)), np.ones((3, 4)))


# --- the rows ----------------------------------------------------------------


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def rows_of(loss):
    return [
        numpy(rows.value).astype("float64").copy()
        for rows in (loss.memory.teacher_rows, loss.memory.student_rows)
    ]


def train(loss, sides, indices, weights=None, labels=None):
    indices = np.array(indices, "int32")
    labels = CLASSES[indices] if labels is None else labels
    return loss(
        *sides, weights, sample_index=indices, labels=labels, training=True
    )


def test_rows_start_at_random_with_about_unit_length():
    teacher, student = rows_of(ContrastiveMemory(400, 32, seed=1))
    for rows in (teacher, student):
        assert np.abs(rows).max() <= (3 / 32) ** 0.5
        assert np.mean(np.sum(rows**2, axis=1)) == pytest.approx(1.0, abs=0.05)
        assert abs(np.mean(rows)) < 0.01
    assert np.abs(np.mean(teacher * student)) < 0.01


def test_rows_follow_the_embeddings():
    loss = ContrastiveMemory(
        SAMPLES, DIM, num_negatives=11, momentum=0.8, seed=0
    )
    sides = random_features((DIM,), (DIM,))
    before = rows_of(loss)
    # Sample 3 comes twice, and once with no weight; 6 only without.
    indices = [9, 3, 3, 6, 3, 0]
    weights = np.array([1.0, 0.2, 5.0, 0.0, 0.0, 2.0], "float32")
    train(loss, sides, indices, weights)
    for old, new, array in zip(before, rows_of(loss), sides):
        array, expected = unit(array.astype("float64")), old.copy()
        expected[9] = unit(0.8 * old[9] + 0.2 * array[0])
        expected[0] = unit(0.8 * old[0] + 0.2 * array[5])
        expected[3] = unit(0.8 * old[3] + 0.2 * (array[1] + array[2]) / 2)
        assert_close(new, expected)
        np.testing.assert_array_equal(new[6], old[6])
    classes = numpy(loss.memory.classes.value)
    expected = np.full(SAMPLES, -1)
    expected[[9, 3, 0]] = CLASSES[[9, 3, 0]]
    np.testing.assert_array_equal(classes, expected)


def test_all_rows_are_compared_before_they_are_written():
    """Those of the batch, too; all others are drawn, so both draws agree."""
    arguments = {"num_negatives": 11, "other_classes": False, "seed": 5}
    sides = random_features((DIM,), (DIM,))
    still = ContrastiveMemory(SAMPLES, DIM, **arguments)
    moving = ContrastiveMemory(SAMPLES, DIM, **arguments)
    expected = float(numpy(still(*sides, sample_index=INDICES)))
    found = float(numpy(train(moving, sides, INDICES)))
    assert found == pytest.approx(expected, rel=1e-5)


def test_constants_are_those_of_the_first_batch():
    loss = Indexed(num_negatives=11, other_classes=False)
    sides = random_features((DIM,), (DIM,))
    expected = constants(loss, *sides, INDICES)
    nobody = np.zeros(6, "float32")
    call = super(Indexed, loss).__call__
    call(*sides, sample_index=INDICES)
    call(*sides, nobody, sample_index=INDICES, training=True)
    assert int(numpy(loss.memory.constants_set.value)) == 0
    call(*sides, sample_index=INDICES, training=True)
    first = numpy(loss.memory.log_constants.value).copy()
    assert_close(np.exp(first), np.array(expected))
    call(
        *random_features((DIM,), (DIM,), seed=9),
        sample_index=INDICES,
        training=True,
    )
    np.testing.assert_array_equal(numpy(loss.memory.log_constants.value), first)


# --- in a distiller ----------------------------------------------------------


def with_indices(x, y):
    return x, {"labels": y, "sample_index": np.arange(len(x))}


def distiller(teacher=None, loss=None, **kwargs):
    loss = loss or ContrastiveMemory(24, 8, num_negatives=16, seed=0, **kwargs)
    return kd.Distiller(
        teacher or functional_model(8, name="teacher"),
        functional_model(4, name="student"),
        [
            kd.Transfer(
                loss,
                teacher="pool",
                student="pool",
                adapter=keras.layers.Dense(8, use_bias=False),
                teacher_adapter=keras.layers.Dense(8, use_bias=False),
                weight=0.8,
            )
        ],
        hard_weight=0.0,
    )


def memory_of(model):
    memory = model.transfers[0].loss.memory
    return [numpy(v.value).copy() for v in memory.variables]


def test_it_is_learned():
    model = distiller()
    model.compile(keras.optimizers.Adam(0.01), cross_entropy())
    (transfer,) = model.transfers
    sides = transfer.adapters + transfer.teacher_adapters
    before = [weights_of(side)[0] for side in sides]
    terms = model.fit(
        *with_indices(*data()), batch_size=8, epochs=15, verbose=0
    ).history["contrastive_memory_loss"]
    assert np.mean(terms[-3:]) < 0.8 * terms[0], terms
    for side, old in zip(sides, before):
        assert np.any(weights_of(side)[0] != old)
    classes = numpy(transfer.loss.memory.classes.value)
    np.testing.assert_array_equal(classes, data()[1])


def test_a_compiled_step_has_the_gradient_and_writes_who_is_there():
    loss = ContrastiveMemory(
        24, 8, num_negatives=23, temperature=0.5, other_classes=False, seed=0
    )
    model = distiller(loss=loss)
    model.compile(keras.optimizers.SGD(1.0), cross_entropy())
    (transfer,) = model.transfers
    kernels = transfer.teacher_adapters[0].kernel, transfer.adapters[0].kernel
    before = [numpy(kernel.value).copy() for kernel in kernels]
    rows = rows_of(loss)
    x, y = data()
    x, indices = x[:8], np.arange(16, 8, -1).astype("int32")
    weights = np.array([1, 1, 0, 1, 2, 1, 0, 1], "float32")
    pools = [
        numpy(
            keras.Model(net.input, net.get_layer("pool").output)(
                x, training=training
            )
        ).astype("float64")
        for net, training in ((model.teacher, False), (model.student, True))
    ]

    def sides(kernels):
        return [pool @ kernel for pool, kernel in zip(pools, kernels)]

    kept = np.repeat(np.arange(8), weights.astype(int))
    z = constants(loss, *(side[kept] for side in sides(before)), indices[kept])
    values = reference(loss, z)

    def expected(kernels):
        teacher, student = (side[kept] for side in sides(kernels))
        return 0.8 * np.mean(values(teacher, student, indices[kept]))

    slopes = finite_differences(expected, before)
    # Not `fit`, which copies weights given as an array for each part of `y`.
    model.train_on_batch(
        x, {"labels": y[:8], "sample_index": indices}, sample_weight=weights
    )
    for kernel, old, slope in zip(kernels, before, slopes):
        # The kernel, near 1, is rounded by 6e-8; slopes are some 0.05.
        assert_close(old - numpy(kernel.value), slope, 2e-5)
    present = indices[weights > 0]
    for old, new, side in zip(rows, rows_of(loss), sides(before)):
        written = old.copy()
        written[present] = unit(old[present] + unit(side)[weights > 0])
        assert_close(new, written)


def test_evaluate_writes_nothing():
    model = distiller()
    model.compile("sgd", cross_entropy())
    model.fit(*with_indices(*data()), verbose=0)
    before = memory_of(model)
    first, second = (
        model.evaluate(*with_indices(*data()), verbose=0) for _ in "ab"
    )
    assert first == second
    for old, new in zip(before, memory_of(model)):
        np.testing.assert_array_equal(old, new)


def test_saved_in_between_it_ends_as_if_it_were_not(tmp_path):
    teacher = functional_model(8, name="teacher")
    settings = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model = distiller(teacher)
    model.compile("adam", cross_entropy())
    model.fit(*with_indices(*data()), **settings)
    model.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    loaded.set_teacher(teacher)
    for old, new in zip(memory_of(model), memory_of(loaded)):
        np.testing.assert_array_equal(old, new)
    for each in (model, loaded):
        each.fit(*with_indices(*data()), **settings)
    for old, new in zip(memory_of(model), memory_of(loaded)):
        assert_close(new, old)
    for old, new in zip(weights_of(model.student), weights_of(loaded.student)):
        assert_close(new, old)


# --- errors ------------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_samples": 1}, "`num_samples` must be .*2"),
        ({"num_samples": 9.0}, "`num_samples` must be .*2"),
        ({"dim": 0}, "`dim` must"),
        ({"num_negatives": 0}, "`num_negatives` must"),
        ({"num_negatives": True}, "`num_negatives` must"),
        ({"momentum": 1.0}, "`momentum` must"),
        ({"momentum": -0.1}, "`momentum` must"),
        ({"temperature": 0.0}, "`temperature` must"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}.*Received"):
        ContrastiveMemory(**{"num_samples": 9, **arguments})


@pytest.mark.one_backend
def test_arguments_are_in_the_config():
    arguments = {
        "num_samples": 9,
        "dim": 3,
        "num_negatives": 5,
        "temperature": 0.25,
        "momentum": 0.75,
        "other_classes": False,
        "seed": 11,
    }
    config = ContrastiveMemory(**arguments).get_config()
    assert arguments.items() <= config.items()
    bank = MemoryBank(9, 3, momentum=0.75, seed=11)
    copy = MemoryBank.from_config(bank.get_config())
    assert copy.get_config() == bank.get_config()


@pytest.mark.one_backend
def test_embeddings_and_context_that_do_not_fit():
    loss = ContrastiveMemory(9, 3, num_negatives=5)
    for shapes in (((4, 8), (4, 3)), ((4, 3), (4, 8)), ((4, 2, 3),) * 2):
        with pytest.raises(ValueError, match="(?s)Received.*Dense.3."):
            loss.check_shapes(*shapes)
    array = np.eye(3, dtype="float32")
    with pytest.raises(ValueError, match="needs `sample_index`"):
        loss(array, array, labels=[0, 1, 2])
    with pytest.raises(ValueError, match="needs `labels`"):
        loss(array, array, sample_index=[0, 1, 2])
    with pytest.raises(ValueError, match="`labels` must.*Received.*argmax"):
        loss(array, array, sample_index=[[0], [1], [2]], labels=np.eye(3))
