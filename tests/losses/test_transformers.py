"""Transformers: attention maps, and relations among tokens."""

import functools

import keras
import numpy as np
import pytest
from battery import MaskTokens
from battery import assert_in_config
from battery import every_check
from battery import gradient
from battery import random_features
from battery import value
from support import numpy

import keras_kd as kd
from keras_kd.losses import AttentionDivergence
from keras_kd.losses import AttentionMapMatching
from keras_kd.losses import SelfAttentionRelation
from keras_kd.losses import attention_divergence
from keras_kd.losses import attention_map_matching
from keras_kd.losses import self_attention_relation
from keras_kd.testing import LossCase
from keras_kd.testing import assert_close

MAPS = (2, 3, 4)  # heads, queries, keys


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def maps(size=1.0):
    return [softmax(array) for array in random_features(MAPS, MAPS, size=size)]


def divergence(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q) if a > 0)


def mean_divergence(teacher, student):
    values = []
    for p, q in zip(teacher, student):
        rows = zip(p.reshape(-1, p.shape[-1]), q.reshape(-1, q.shape[-1]))
        values.append(np.mean([divergence(*pair) for pair in rows]))
    return np.array(values)


def divergence_of_maps(teacher, student):
    return mean_divergence(
        *(m / m.sum(axis=-1, keepdims=True) for m in (teacher, student))
    )


def divergence_of_scores(teacher, student):
    return mean_divergence(softmax(teacher), softmax(student))


def squared_difference(teacher, student):
    return ((teacher - student) ** 2).mean(axis=(1, 2, 3))


def relation(vectors, part, token, size, keys):
    """Row `token` of a sample's relation in one relation head."""
    vectors = vectors.reshape(len(vectors), -1)
    vectors = vectors[:, part * size : (part + 1) * size]
    scores = [np.dot(vectors[token], vectors[key]) for key in keys]
    return softmax(np.array(scores) / np.sqrt(size))


def relations(heads, present=None):
    def values(teacher, student):
        result = np.zeros(teacher.shape[:2])
        for sample, token in np.ndindex(result.shape):
            keys = np.arange(teacher.shape[1])
            if present is not None:
                keys = keys[present[sample]]
            if token not in keys:
                continue
            result[sample, token] = np.mean(
                [
                    divergence(
                        *(
                            relation(
                                side[sample],
                                part,
                                token,
                                side[sample, 0].size // heads,
                                keys,
                            )
                            for side in (teacher, student)
                        )
                    )
                    for part in range(heads)
                ]
            )
        return result

    return values


def turned(array):
    """All tokens of a array turned alike: their products remain."""
    return -array


def rows_scaled(array):
    return array * np.float32(3.0)


def rows_shifted(array):
    return array + np.float32(2.0)


CASES = {
    "maps": LossCase(
        AttentionMapMatching, *maps(), reference=squared_difference
    ),
    "scores": LossCase(
        functools.partial(AttentionMapMatching, from_scores=True),
        *random_features(MAPS, MAPS),
        reference=squared_difference,
    ),
    "divergence": LossCase(
        AttentionDivergence,
        *maps(),
        reference=divergence_of_maps,
        invariances=(rows_scaled,),
    ),
    "divergence_of_scores": LossCase(
        functools.partial(AttentionDivergence, from_scores=True),
        *random_features(MAPS, MAPS),
        reference=divergence_of_scores,
        invariances=(rows_shifted,),
    ),
    "relation": LossCase(
        functools.partial(SelfAttentionRelation, 2),
        *random_features((3, 8), (3, 4)),
        reference=relations(2),
        invariances=(turned,),
    ),
    "relation_of_projections": LossCase(
        functools.partial(SelfAttentionRelation, 2),
        *random_features((3, 4, 2), (3, 1, 4)),
        reference=relations(2),
        invariances=(turned,),
    ),
}


@every_check(CASES)
def test_contract(case, check):
    check(case)


@pytest.mark.parametrize(
    "name, function",
    [
        ("maps", attention_map_matching),
        ("divergence", attention_divergence),
        (
            "relation",
            functools.partial(self_attention_relation, relation_heads=2),
        ),
    ],
)
def test_function_gives_the_values(name, function):
    case = CASES[name]
    exact = [v.astype("float64") for v in (case.teacher, case.student)]
    assert_close(
        numpy(function(case.teacher, case.student)), case.reference(*exact)
    )


# --- maps -------------------------------------------------------------------


def test_masked_scores_count_as_0_as_in_the_published_code():
    teacher, student = random_features(MAPS, MAPS)
    emptied = teacher.copy(), student.copy()
    for array, fill in zip((teacher, student), (-10000.0, -100.0)):
        array[..., 3] = fill
    for array in emptied:
        array[..., 3] = 0.0
    loss = AttentionMapMatching(from_scores=True)
    assert_close(value(loss, teacher, student), value(loss, *emptied))
    slope = gradient(loss, teacher, student)
    assert np.all(slope[..., 3] == 0.0)
    assert np.abs(slope[..., :3]).min() > 0.0
    assert value(AttentionMapMatching(), teacher, student) > 1e6


def test_masked_keys_are_absent_from_the_divergence():
    teacher, student = maps()
    masked = [np.pad(array, [(0, 0)] * 3 + [(0, 2)]) for array in maps()]
    loss = AttentionDivergence()
    assert_close(value(loss, *masked), value(loss, teacher, student))
    slope = gradient(loss, *masked)
    assert np.all(slope[..., 4:] == 0.0)
    assert_close(slope[..., :4], gradient(loss, teacher, student))


def test_divergence_of_scores_is_that_of_their_softmax():
    teacher, student = random_features(MAPS, MAPS)
    assert_close(
        value(AttentionDivergence(from_scores=True), teacher, student),
        value(AttentionDivergence(), softmax(teacher), softmax(student)),
    )


def test_a_confident_student_gets_a_gradient_through_its_scores():
    teacher = np.array([[[[0.0, 200.0]]]], "float32")
    student = -teacher
    loss = AttentionDivergence(from_scores=True)
    expected = np.array([[[[1.0, -1.0]]]])
    assert_close(gradient(loss, teacher, student), expected)


# --- relations --------------------------------------------------------------

MASK = np.array(
    [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], "bool"
)


def masked_relation(teacher, student, weights=None):
    return SelfAttentionRelation(2)(teacher, MaskTokens(MASK)(student), weights)


@pytest.mark.parametrize("shape", [(4, 8), (4, 2, 4)])
def test_padded_tokens_are_neither_queries_nor_keys(shape):
    teacher, student = random_features(shape, shape, samples=4)
    other = teacher.copy(), student.copy()
    for array in other:
        array[~MASK] += 50.0
    exact = [array.astype("float64") for array in (teacher, student)]
    expected = relations(2, MASK)(*exact)[MASK].mean()
    assert_close(value(masked_relation, *other), expected)
    slope = gradient(masked_relation, *other)
    assert np.all(slope[~MASK] == 0.0)
    assert_close(slope, gradient(masked_relation, teacher, student))
    assert np.abs(slope[MASK]).max() > 1e-3


def test_a_padded_text_is_the_text_without_padding():
    teacher, student = random_features((4, 8), (4, 8), samples=4)
    loss = SelfAttentionRelation(2)
    first = value(loss, teacher[:1, :3], student[:1, :3])
    last = value(loss, teacher[3:], student[3:])
    assert_close(
        value(masked_relation, teacher, student),
        # The second text, of one token, relates to itself alone: 0.
        (3.0 * first + 1.0 * 0.0 + 4.0 * last) / 8.0,
    )


def test_weights_of_tokens_are_a_mask():
    teacher, student = random_features((4, 8), (4, 8), samples=4)
    loss = SelfAttentionRelation(2)
    assert_close(
        value(loss, teacher, student, MASK.astype("float32")),
        value(masked_relation, teacher, student),
    )
    assert_close(
        gradient(loss, teacher, student, MASK.astype("float32")),
        gradient(masked_relation, teacher, student),
    )


def test_weights_of_samples_and_a_mask_join():
    teacher, student = random_features((4, 8), (4, 8), samples=4)
    weights = np.array([1.0, 2.0, 1.0, 0.0], "float32")
    loss = SelfAttentionRelation(2)
    assert_close(
        value(masked_relation, teacher, student, weights),
        value(loss, teacher, student, weights[:, None] * MASK),
    )


def test_heads_are_split_anew():
    teacher, student = random_features((3, 8), (3, 8))
    loss = SelfAttentionRelation(2)
    folded = teacher.reshape(6, 3, 4, 2), student.reshape(6, 3, 1, 8)
    assert_close(value(loss, *folded), value(loss, teacher, student))
    two, four = (
        numpy(self_attention_relation(teacher, student, relation_heads=number))
        for number in (2, 4)
    )
    assert np.abs(two - four).max() > 1e-2


UNIT = keras.initializers.RandomNormal(stddev=1.0, seed=0)


def transformer(heads, head_dim, units):
    tokens = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, units, UNIT, name="tokens")(tokens)
    attention = keras.layers.MultiHeadAttention(
        heads, head_dim, name="attention"
    )
    x = keras.layers.LayerNormalization()(x + attention(x, x))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, keras.layers.Dense(3, name="head")(x))


TOKENS = np.random.default_rng(0).integers(1, 7, (8, 5)).astype("int32")


def distilled(transfer, teacher, student, rate, epochs):
    distiller = kd.Distiller(teacher, student, [transfer])
    distiller.compile(optimizer=keras.optimizers.SGD(rate), loss=None)
    return distiller.fit(
        TOKENS, batch_size=8, epochs=epochs, verbose=0, shuffle=False
    ).history


PROJECTIONS = ["attention/query", "attention/key", "attention/value"]


# The tapped projections are all that these losses train.
only_the_taps = pytest.mark.filterwarnings("ignore:Gradients do not exist")


@only_the_taps
def test_relations_of_keras_attention_as_it_is():
    teacher, student = transformer(4, 4, 12), transformer(2, 6, 8)
    loss = SelfAttentionRelation(2)
    transfer = kd.Transfer(loss, teacher=PROJECTIONS, student=PROJECTIONS)

    def projections(model):
        tokens = model.get_layer("tokens")(TOKENS)
        attention = model.get_layer("attention")
        return [
            attention.query_dense(tokens),
            attention.key_dense(tokens),
            attention.value_dense(tokens),
        ]

    expected = sum(
        value(loss, *pair)
        for pair in zip(projections(teacher), projections(student))
    )
    before = [numpy(v.value) for v in student.get_layer("attention").weights]
    losses = distilled(transfer, teacher, student, 0.1, epochs=20)["loss"]
    assert_close(losses[0], expected)
    assert losses[-1] < 0.7 * losses[0]
    after = [numpy(v.value) for v in student.get_layer("attention").weights]
    moved = [np.abs(a - b).max() > 1e-6 for a, b in zip(after, before)]
    # Kernels and biases of query, key and value; not those of the output.
    assert moved == [True] * 6 + [False] * 2


@only_the_taps
@pytest.mark.parametrize(
    "loss, rate", [(AttentionMapMatching, 10.0), (AttentionDivergence, 1.0)]
)
def test_maps_of_keras_attention_as_it_is(loss, rate):
    teacher, student = transformer(4, 4, 12), transformer(2, 6, 8)
    transfer = kd.Transfer(
        loss(),
        teacher="attention:scores",
        student="attention:scores",
        adapter=kd.layers.AttentionAdapter(),
    )
    losses = distilled(transfer, teacher, student, rate, epochs=10)["loss"]
    assert losses[-1] < 0.95 * losses[0]


# --- arguments --------------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "loss, arguments",
    [
        (AttentionMapMatching, {"from_scores": True}),
        (AttentionDivergence, {"from_scores": True}),
        (SelfAttentionRelation, {"relation_heads": 12}),
    ],
)
def test_each_argument_is_in_the_config(loss, arguments):
    assert_in_config(loss, **arguments)


@pytest.mark.one_backend
@pytest.mark.parametrize("heads", [0, -1, 2.0, "2", None])
def test_relation_heads_that_are_none(heads):
    with pytest.raises(ValueError, match="positive integer.*Received"):
        SelfAttentionRelation(heads)


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "make, teacher, student, message",
    [
        (AttentionMapMatching, (4, 2, 5, 5), (4, 3, 5, 5), "AttentionAdapter"),
        (AttentionMapMatching, (4, 5, 5), (4, 5, 5), "queries, keys"),
        (AttentionMapMatching, (4, 2, 5, 5), (4, 5, 5), "queries, keys"),
        (AttentionDivergence, (4, 2, 5, 5), (4, 2, 5, 6), "same shape"),
        (SelfAttentionRelation, (4, 5, 48), (4, 6, 48), "same length"),
        (SelfAttentionRelation, (4, 48), (4, 48), "token sequences"),
        (SelfAttentionRelation, (4, 5, 8, 12), (4, 5, 6, 4), "by 24 and"),
    ],
)
def test_shapes_that_do_not_compare(make, teacher, student, message):
    with pytest.raises(ValueError, match=message) as error:
        make().check_shapes(teacher, student)
    assert "Received: " in str(error.value)
    with pytest.raises(ValueError, match=message):
        make()(np.ones(teacher, "float32"), np.ones(student, "float32"))


@pytest.mark.one_backend
def test_unknown_sizes_are_no_misfit():
    shapes = (None, 2, None, None), (None, 2, 5, 5)
    AttentionMapMatching().check_shapes(*shapes)
    AttentionDivergence().check_shapes(*shapes)
    SelfAttentionRelation(2).check_shapes((None, None, 8), (None, 5, 2, 3))
