"""A masked position is absent: the text without its padding, in each loss."""

import functools

import keras
import numpy as np
import pytest
from battery import MaskTokens
from battery import random_features
from support import numpy

import keras_kd as kd
from keras_kd import losses
from keras_kd.testing import assert_close
from keras_kd.testing import value_and_gradient

LENGTHS = [2, 4, 0, 3]  # of 4 tokens; the third sample has none
MASK = np.arange(4) < np.array(LENGTHS)[:, None]

LOSSES = {
    "channel_wise": losses.ChannelWiseDistillation,
    "activation_boundaries": losses.ActivationBoundaries,
    "attention_code": losses.AttentionTransfer,
    "attention_paper": functools.partial(
        losses.AttentionTransfer, form="paper"
    ),
    "variational": losses.VariationalInformation,
    "margin_relu": losses.MarginReLU,
    "neuron_selectivity": losses.NeuronSelectivity,
    "inter_channel": losses.InterChannelCorrelation,
    "factor_l1": losses.FactorTransfer,
    "factor_l2": functools.partial(losses.FactorTransfer, distance="l2"),
    "factor_map": functools.partial(losses.FactorTransfer, form="map"),
    "hierarchical": losses.HierarchicalContext,
    "hierarchical_odd": functools.partial(
        losses.HierarchicalContext, sizes=(3, 2)
    ),
}


def tokens(name):
    teacher, student = random_features((4, 3), (4, 3), samples=len(LENGTHS))
    if name == "variational":  # means, then variances
        student = np.concatenate([student, 0.5 + student**2], axis=-1)
    for array in (teacher, student):
        array[~MASK] += 50.0
    return teacher, student


def function_of(loss, mask=None, weights=None):
    def function(student, teacher):
        if mask is not None:
            student = MaskTokens(mask)(student)
        return loss(teacher, student, weights)

    return function


def unpadded(loss, teacher, student):
    """Value and gradient of each sample that has tokens, cut to its length."""
    return {
        sample: value_and_gradient(
            function_of(loss),
            student[sample : sample + 1, :length],
            teacher[sample : sample + 1, :length],
        )
        for sample, length in enumerate(LENGTHS)
        if length
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_a_padded_text_is_the_text_without_padding(name, weighted):
    loss = LOSSES[name]()
    teacher, student = tokens(name)
    weights = np.array([1.0, 2.0, 1.0, 0.5], "float32") if weighted else None
    value, gradient = value_and_gradient(
        function_of(loss, MASK, weights), student, teacher
    )
    share = np.ones(4) if weights is None else weights.astype("float64")
    # A mean over samples; where positions have values, over those.
    share = share * (np.array(LENGTHS) > 0 if loss.per_sample else LENGTHS)
    share = share / share.sum()
    expected, slope = 0.0, np.zeros(student.shape)
    for sample, (of_sample, slopes) in unpadded(loss, teacher, student).items():
        expected += share[sample] * of_sample
        slope[sample, : LENGTHS[sample]] = share[sample] * slopes[0]
    assert_close(value, expected)
    assert_close(gradient, slope)
    assert np.all(gradient[~MASK] == 0.0)
    assert np.abs(gradient[MASK]).max() > 1e-4


@pytest.mark.parametrize("name", LOSSES)
def test_no_text_has_tokens(name):
    teacher, student = tokens(name)
    value, gradient = value_and_gradient(
        function_of(LOSSES[name](), np.zeros_like(MASK)), student, teacher
    )
    assert value == 0.0 and np.all(gradient == 0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_masked_tokens_may_lie_anywhere(name):
    teacher, student = tokens(name)
    order = [2, 0, 3, 1]
    loss = LOSSES[name]()
    mixed = MASK.copy()
    for sample, length in enumerate(LENGTHS):
        # The present ones keep their order among themselves.
        places = sorted(order[:length]) + sorted(order[length:])
        back = np.argsort(places)
        mixed[sample] = MASK[sample, back]
        teacher[sample], student[sample] = (
            array[sample, back] for array in (teacher, student)
        )
    teacher_cut, student_cut = tokens(name)
    assert_close(
        numpy(function_of(loss, mixed)(student, teacher)),
        numpy(function_of(loss, MASK)(student_cut, teacher_cut)),
    )


@pytest.mark.parametrize(
    "name", ["attention_code", "attention_paper", "factor_map"]
)
def test_of_other_positions_the_masked_ones_are_zeros(name):
    teacher, student = random_features((8, 3), (4, 3), samples=len(LENGTHS))
    student[LENGTHS.index(0)] = 0.0
    weights = (np.array(LENGTHS) > 0).astype("float32")
    emptied = np.where(MASK[:, :, None], student, np.float32(0.0))
    loss = LOSSES[name]()
    assert_close(
        numpy(function_of(loss, MASK)(student, teacher)),
        numpy(function_of(loss, weights=weights)(emptied, teacher)),
    )


def transformer(heads, head_dim, units, name):
    text = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(
        7,
        units,
        keras.initializers.RandomNormal(stddev=1.0, seed=units),
        mask_zero=True,
        name="tokens",
    )(text)
    attention = keras.layers.MultiHeadAttention(
        heads, head_dim, name="attention"
    )
    x = keras.layers.LayerNormalization()(x + attention(x, x))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(text, keras.layers.Dense(3)(x), name=name)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_padding_reaches_the_relations_of_keras_attention():
    """As it does through weights of tokens, in a fit."""
    text = np.random.default_rng(0).integers(1, 7, (4, 4)).astype("int32")
    text[2] = text[0]
    mask = MASK | (np.array(LENGTHS) == 0)[:, None]
    text[~mask] = 0
    taps = [f"attention/{part}" for part in ("query", "key", "value")]
    loss = losses.SelfAttentionRelation(2)
    teacher = transformer(4, 4, 12, "teacher")
    student = transformer(2, 6, 8, "student")

    def projections(model):
        attention = model.get_layer("attention")
        vectors = keras.ops.convert_to_tensor(
            numpy(model.get_layer("tokens")(text))
        )
        return [
            attention.query_dense(vectors),
            attention.key_dense(vectors),
            attention.value_dense(vectors),
        ]

    expected = sum(
        float(numpy(loss(*pair, mask.astype("float32"))))
        for pair in zip(projections(teacher), projections(student))
    )
    distiller = kd.Distiller(
        teacher, student, [kd.Transfer(loss, teacher=taps, student=taps)]
    )
    distiller.compile(optimizer=keras.optimizers.SGD(0.0), loss=None)
    history = distiller.fit(text, batch_size=4, verbose=0).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    unmasked = sum(
        float(numpy(loss(*pair)))
        for pair in zip(projections(teacher), projections(student))
    )
    assert abs(unmasked - expected) > 1e-3 * expected


def test_absent_pixels_count_in_no_mean_of_a_map():
    teacher, student = random_features((4, 4, 3), (4, 4, 3), samples=2)
    weights = np.ones((2, 4, 4), "float32")
    weights[0, :2, 1:] = weights[1, 3] = 0.0
    loss = losses.HierarchicalContext(sizes=(2,))
    error = (teacher - student).astype("float64")
    of_samples = []
    for one, weight in zip(error, weights):
        cells = [
            one[rows, columns][weight[rows, columns] > 0]
            for rows in (slice(2), slice(2, 4))
            for columns in (slice(2), slice(2, 4))
        ]
        means = [cell.mean(axis=0) for cell in cells if len(cell)]
        whole = np.mean(one[weight > 0] ** 2)
        of_samples.append((whole + np.mean(np.square(means)) / 2) / 1.5)
    assert_close(numpy(loss(teacher, student, weights)), np.mean(of_samples))
