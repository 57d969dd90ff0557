"""Which weights, labels and mask reach a term: by hand, in plain Keras."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support import cross_entropy
from support import numpy

import keras_kd as kd
from keras_kd import losses

NEAR = {"rtol": 2e-5, "atol": 1e-7}
random = np.random.default_rng(0)

# --- pixels: all losses in one fit -------------------------------------------

PIXELS = random.normal(size=(6, 4, 4, 3)).astype("float32")
LABELS = random.integers(0, 3, (6, 4, 4)).astype("int32")
OF_IMAGES = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0], "float32")
# The first two rows are void.
WEIGHTS = np.zeros((6, 4, 4), "float32")
WEIGHTS[:, 2:] = OF_IMAGES[:, None, None]

LOGITS = [
    losses.BinarySoftTargets,
    losses.DecoupledKD,
    losses.JensenShannon,
    losses.LogitMatching,
    losses.MarginMixedTeacher,
    losses.OrdinalSoftTargets,
    losses.ReverseKL,
    losses.SkewKL,
    losses.SkewReverseKL,
    losses.SoftTargets,
    losses.TargetEnhancement,
    losses.TopKTargets,
    losses.VirtualTeacher,
]
MAPS = [
    losses.ActivationBoundaries,
    losses.AttentionTransfer,
    losses.ChannelWiseDistillation,
    losses.CorrelationCongruence,
    losses.FactorTransfer,
    losses.FeatureMatching,
    losses.InterChannelCorrelation,
    losses.LogSumDistance,
    losses.MarginReLU,
    losses.NeuronSelectivity,
    losses.ProbabilisticTransfer,
    losses.RelationalAngle,
    losses.RelationalDistance,
    losses.SimilarityPreserving,
]
JOINT = [losses.FlowOfSolution, losses.SingularVectors]
VECTORS = [
    losses.ContrastiveRepresentation,
    losses.DIST,
    losses.StreamlinedDirection,
]
# In other tests: of labels that are no classes; of tokens; of peers; with a
# memory of samples; or (means and variances, pooled maps) with another shape.
ELSEWHERE = [
    losses.AttentionDivergence,
    losses.AttentionMapMatching,
    losses.BoundedRegression,
    losses.CollaborativeTargets,
    losses.ContrastiveMemory,
    losses.HierarchicalContext,
    losses.LikelihoodMatching,
    losses.PastPredictions,
    losses.SelfAttentionRelation,
    losses.UniversalLogit,
    losses.VariationalInformation,
]
# About what they are here, so that each counts as much as the others.
SIZES = {
    losses.ActivationBoundaries: 100.0,
    losses.AttentionTransfer: 0.1,
    losses.ContrastiveRepresentation: 10.0,
    losses.CorrelationCongruence: 100.0,
    losses.FactorTransfer: 0.2,
    losses.JensenShannon: 0.1,
    losses.LogSumDistance: 20.0,
    losses.MarginReLU: 100.0,
    losses.OrdinalSoftTargets: 0.1,
    losses.ProbabilisticTransfer: 0.004,
    losses.RelationalAngle: 0.01,
    losses.RelationalDistance: 0.01,
    losses.SimilarityPreserving: 0.04,
    losses.SingularVectors: 0.1,
    losses.SkewKL: 0.2,
    losses.SkewReverseKL: 0.2,
}
BASES = [losses.DistillationLoss, losses.LogitDivergence, losses.TemperedLoss]


@pytest.mark.one_backend
def test_no_loss_is_forgotten():
    known = [*LOGITS, *MAPS, *JOINT, *VECTORS, *ELSEWHERE, *BASES]
    public = [getattr(losses, name) for name in losses.__all__]
    classes = {each for each in public if inspect.isclass(each)}
    assert set(known) == classes - {losses.ChunkedLogits}  # No loss itself.


class OneASample(keras.losses.Loss):
    """A Keras loss of a user, of one value a sample."""

    def call(self, teacher, student):
        return ops.sum(ops.square(teacher - student), axis=(1, 2, 3))


SIZES[OneASample] = 100.0


def taps_of(loss):
    if loss in VECTORS:
        return "pool"
    if loss in LOGITS:
        return None
    return ["below", "maps"] if loss in JOINT else "maps"


def made(loss):
    return loss(k=2) if loss is losses.TopKTargets else loss()


def every_pixel_loss():
    keras_losses = [keras.losses.MeanSquaredError, OneASample]
    return [*LOGITS, *MAPS, *JOINT, *VECTORS, *keras_losses]


def segmenter(seed):
    """The same on each backend."""
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(5, 1, name="below")(inputs)
    x = layers.Conv2D(5, 1, name="maps")(x)
    pool = layers.Dense(4, name="pool")(layers.GlobalAveragePooling2D()(x))
    mixed = x + ops.mean(pool, axis=-1)[:, None, None, None]
    model = keras.Model(inputs, layers.Conv2D(3, 1, name="logits")(mixed))
    drawn = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(drawn.normal(0.0, 0.5, weight.shape))
    return model


class ByHand(keras.Model):
    """The same combined loss of a student, in plain Keras: rows cut out."""

    def __init__(self, student, teacher_features):
        super().__init__()
        names = ["below", "maps", "pool"]
        outputs = [student.get_layer(name).output for name in names]
        self.reader = keras.Model(student.input, [*outputs, student.output])
        self.teacher_features = teacher_features
        self.terms = [
            keras.losses.MeanSquaredError(reduction=None)
            if each is keras.losses.MeanSquaredError
            else made(each)
            for each in every_pixel_loss()
        ]

    def call(self, inputs):
        return self.reader(inputs)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        hard_loss = cross_entropy()(y, y_pred[-1], WEIGHTS)
        teacher = self.cut(map(ops.convert_to_tensor, self.teacher_features))
        student, labels = self.cut(y_pred), y[:, 2:]
        return hard_loss + sum(
            self.term(each, teacher, student, labels)
            / SIZES.get(type(each), 1.0)
            for each in self.terms
        )

    def cut(self, features):
        below, maps, pool, logits = features
        return {
            "maps": maps[:, 2:],
            "['below', 'maps']": [below[:, 2:], maps[:, 2:]],
            "pool": pool,
            "None": logits[:, 2:],
        }

    def term(self, loss, teacher, student, labels):
        place = str(taps_of(type(loss)))
        sides = teacher[place], student[place]
        if isinstance(loss, losses.DistillationLoss):
            labeled = "labels" in loss.required_context
            context = {"labels": labels} if labeled else {}
            return loss(*sides, OF_IMAGES, **context)
        # Keras' mean is over all, whatever their weights.
        if isinstance(loss, OneASample):
            values = ops.multiply(loss.call(*sides), OF_IMAGES)
            return ops.sum(values) / len(OF_IMAGES)
        values = ops.multiply(loss(*sides), OF_IMAGES[:, None, None])
        return ops.sum(values) / float(WEIGHTS.size)


def read(model, names, x):
    outputs = [model.get_layer(name).output for name in names]
    found = keras.Model(model.input, [*outputs, model.output])(x)
    return [numpy(each) for each in found]


def test_pixels_of_weight_0_are_absent_in_every_loss():
    teacher, student, same = (segmenter(seed) for seed in (1, 2, 2))
    by_hand = ByHand(same, read(teacher, ["below", "maps", "pool"], PIXELS))
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(
                made(loss),
                teacher=taps_of(loss),
                student=taps_of(loss),
                weight=1.0 / SIZES.get(loss, 1.0),
            )
            for loss in every_pixel_loss()
        ],
        hard_weight=1.0,
    )
    distiller.compile(keras.optimizers.SGD(1e-3), cross_entropy())
    by_hand.compile(keras.optimizers.SGD(1e-3))
    fit = {"batch_size": 6, "verbose": 0, "shuffle": False}
    logs = distiller.fit(PIXELS, LABELS, sample_weight=WEIGHTS, **fit).history
    expected = by_hand.fit(PIXELS, LABELS, **fit).history
    np.testing.assert_allclose(logs["loss"], expected["loss"], **NEAR)
    # No term is too small to be seen in the sum.
    for transfer in distiller.transfers:
        (value,) = logs[f"{transfer.name}_loss"]
        assert 0.1 < value < 10.0, transfer
    before = segmenter(2).weights
    for start, found, wanted in zip(before, student.weights, same.weights):
        steps = [numpy(each) - numpy(start) for each in (found, wanted)]
        np.testing.assert_allclose(*steps, rtol=1e-3, atol=1e-6)


# --- several outputs ----------------------------------------------------------

X = random.normal(size=(8, 5)).astype("float32")
CLASSES = random.integers(0, 3, 8)
BOXES = random.normal(size=(8, 4)).astype("float32")
OF_CLASSES, OF_BOXES = random.uniform(0, 2, (2, 8)).astype("float32")
OF_CLASSES[:3] = OF_BOXES[5:] = 0.0


def detector(structure, units, seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5,))
    trunk = layers.Dense(units, name="trunk")(inputs)
    heads = [
        layers.Dense(n, name=k)(trunk) for k, n in (("cls", 3), ("box", 4))
    ]
    outputs = dict(zip(("cls", "box"), heads)) if structure is dict else heads
    return keras.Model(inputs, outputs)


def soft_targets(teacher, student):
    log_p, log_q = (
        z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
        for z in (teacher.astype("float64"), student.astype("float64"))
    )
    return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def bounded(teacher, student):
    errors = [((z - BOXES) ** 2).sum(axis=-1) for z in (teacher, student)]
    return np.where(errors[1] > errors[0], errors[1], 0.0)


def detector_transfers(structure):
    taps = ["[cls]", "[box]"] if structure is dict else ["[0]", "[1]"]
    at = [{"teacher": tap, "student": tap} for tap in taps]
    rule = kd.rules.DropWrong()
    soft = kd.losses.SoftTargets
    return [
        kd.Transfer(soft(1.0), **at[0], name="soft"),
        kd.Transfer(soft(1.0), **at[0], rules=[rule], name="right"),
        kd.Transfer(keras.losses.MeanSquaredError(), **at[1], name="error"),
        kd.Transfer(kd.losses.BoundedRegression(), **at[1], name="bounded"),
        kd.Transfer(kd.losses.LogitMatching(), name="both"),
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="box",
            student="box",
            labels="box",
            name="named",
        ),
    ]


def by_output(structure, of_classes, of_boxes):
    pair = of_classes, of_boxes
    return dict(zip(("cls", "box"), pair)) if structure is dict else list(pair)


@pytest.mark.parametrize("structure", [dict, list])
def test_each_output_has_its_own_weights_and_labels(structure):
    models = [detector(structure, units, units) for units in (7, 6)]
    distiller = kd.Distiller(*models, detector_transfers(structure))
    hard = [cross_entropy(), keras.losses.MeanSquaredError()]
    distiller.compile("sgd", by_output(structure, *hard))
    weights = by_output(structure, OF_CLASSES, OF_BOXES)
    labels = by_output(structure, CLASSES, BOXES)
    logs = distiller.evaluate(
        X, labels, 8, verbose=0, sample_weight=weights, return_dict=True
    )
    keys = ("cls", "box") if structure is dict else (0, 1)
    (t_cls, t_box), (s_cls, s_box) = (
        [numpy(model(X)[key]) for key in keys] for model in models
    )
    of_right = OF_CLASSES * (t_cls.argmax(axis=-1) == CLASSES)
    soft = soft_targets(t_cls, s_cls)
    errors = [
        np.mean((t - s) ** 2, -1) for t, s in ((t_cls, s_cls), (t_box, s_box))
    ]
    expected = {
        "soft": np.average(soft, weights=OF_CLASSES),
        "right": np.average(soft, weights=of_right),
        "error": np.mean(OF_BOXES * errors[1]),
        "bounded": np.average(bounded(t_box, s_box), weights=OF_BOXES),
        "both": np.average(errors[0], weights=OF_CLASSES)
        + np.average(errors[1], weights=OF_BOXES),
        "named": np.average(errors[1], weights=OF_BOXES),
    }
    for name, value in expected.items():
        found = logs[f"{name}_loss"]
        assert found == pytest.approx(value, rel=1e-4), name


def test_weights_that_all_outputs_share_reach_a_layer():
    """And those that differ are refused there, whatever form the data has."""
    models = [detector(dict, 6, seed) for seed in (1, 2)]
    tap = {"teacher": "trunk", "student": "trunk"}
    transfer = kd.Transfer(kd.losses.FeatureMatching(), **tap, name="hint")
    distiller = kd.Distiller(*models, [transfer])
    hard_loss = {"cls": cross_entropy(), "box": "mse"}
    distiller.compile(keras.optimizers.SGD(0.0), hard_loss)
    labels = {"cls": CLASSES, "box": BOXES}
    fit = {"batch_size": 8, "verbose": 0}
    logs = distiller.fit(X, labels, sample_weight=OF_CLASSES, **fit).history
    t, s = (
        numpy(kd.extract_features(model, X, "trunk")["trunk"])
        for model in models
    )
    expected = np.average(np.mean((t - s) ** 2, axis=-1), weights=OF_CLASSES)
    np.testing.assert_allclose(logs["hint_loss"], [expected], rtol=1e-5)
    weights = {"cls": OF_CLASSES, "box": OF_BOXES}
    with pytest.raises(ValueError, match="'hint'.*Received.*labels='cls'"):
        distiller.fit(X, labels, sample_weight=weights, **fit)
    distiller.evaluate(X, labels, verbose=0, sample_weight=OF_BOXES)


def test_labels_of_several_outputs_are_told_apart_by_name():
    tap = {"teacher": "cls", "student": "cls"}
    for labels, message in [
        (None, "'dkd'.*Received: labels=None.*'box', 'cls'"),
        ("mask", "'dkd'.*Received: labels='mask'"),
    ]:
        distiller = kd.Distiller(
            detector(dict, 6, 1),
            detector(dict, 6, 2),
            kd.Transfer(losses.DecoupledKD(), **tap, labels=labels, name="dkd"),
        )
        distiller.compile("sgd", None)
        with pytest.raises(ValueError, match=message):
            distiller.evaluate(X, {"cls": CLASSES, "box": BOXES}, verbose=0)


# --- labels that are ignored --------------------------------------------------


def test_ignored_pixels_count_in_no_term():
    void = LABELS.copy()
    void[WEIGHTS == 0.0] = 255
    logs = []
    for ignored, weights in ((255, None), (None, (void != 255) * 1.0)):
        taps = {"teacher": "maps", "student": "maps"}
        distiller = kd.Distiller(
            segmenter(1),
            segmenter(2),
            [
                kd.Transfer(losses.SoftTargets(), name="soft"),
                kd.Transfer(losses.ChannelWiseDistillation(), **taps),
                kd.Transfer(losses.FeatureMatching(), **taps, name="hint"),
                kd.Transfer(
                    losses.LogitMatching(), ignore_class=False, name="all"
                ),
                kd.Transfer(losses.DecoupledKD(), rules=[kd.rules.DropWrong()]),
            ],
        )
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=255
        )
        distiller.compile("sgd", loss if ignored else None)
        data = {"x": PIXELS, "y": void, "sample_weight": weights}
        logs.append(distiller.evaluate(**data, return_dict=True, verbose=0))
    for name in ("soft", "channel_wise_distillation", "hint", "decoupled_kd"):
        found, expected = (each[f"{name}_loss"] for each in logs)
        assert found == pytest.approx(expected, rel=1e-5), name
    # There the teacher teaches void pixels as well.
    t, s = (numpy(segmenter(seed)(PIXELS)) for seed in (1, 2))
    assert logs[0]["all_loss"] == pytest.approx(np.mean((t - s) ** 2), rel=1e-4)


def test_what_the_compiled_loss_ignores_keeps_its_weight_in_terms():
    teacher, student = segmenter(1), segmenter(2)
    void = LABELS.copy()
    void[0] = 255
    weights = np.random.default_rng(0).uniform(size=LABELS.shape)
    distiller = kd.Distiller(
        teacher,
        student,
        kd.Transfer(losses.LogitMatching(), ignore_class=False),
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=255
    )
    distiller.compile("sgd", loss)
    logs = distiller.evaluate(
        PIXELS, void, sample_weight=weights, verbose=0, return_dict=True
    )
    t, s = (numpy(model(PIXELS)) for model in (teacher, student))
    errors = np.mean((t - s) ** 2, axis=-1)
    expected = np.average(errors, weights=weights)
    assert logs["logit_matching_loss"] == pytest.approx(expected, rel=1e-4)


def test_unlabeled_samples_are_taught_unless_the_transfer_ignores_them():
    teacher, student = (
        keras.Sequential([keras.Input((5,)), layers.Dense(3)]) for _ in range(2)
    )
    classes = np.where(OF_CLASSES > 0, CLASSES, -1)
    soft = losses.SoftTargets(1.0)
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(soft, name="all"),
            kd.Transfer(soft, ignore_class=-1, name="labeled"),
        ],
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    distiller.compile("sgd", loss)
    logs = distiller.evaluate(X, classes, verbose=0, return_dict=True)
    values = soft_targets(numpy(teacher(X)), numpy(student(X)))
    assert logs["all_loss"] == pytest.approx(values.mean(), rel=1e-4)
    labeled = values[classes >= 0].mean()
    assert logs["labeled_loss"] == pytest.approx(labeled, rel=1e-4)


@pytest.mark.one_backend
def test_arguments_are_checked_and_saved():
    soft = losses.SoftTargets()
    with pytest.raises(ValueError, match="`mask` must be.*Received: mask=3"):
        kd.Transfer(soft, mask=3)
    with pytest.raises(ValueError, match="`ignore_class` must be"):
        kd.Transfer(soft, ignore_class=0.5)
    given = {"labels": "1", "mask": "valid", "ignore_class": 255}
    arguments = [
        {**given, "labels": 1},
        {"mask": False},
        {"ignore_class": False},
    ]
    for each in arguments:
        transfer = kd.Transfer(soft, **each)
        config = keras.saving.serialize_keras_object(transfer)
        loaded = keras.saving.deserialize_keras_object(config)
        for name in each:
            assert getattr(loaded, name) == getattr(transfer, name)
        assert str(getattr(loaded, name)) == str(each[name])


# --- texts under a mask that is an input --------------------------------------

LENGTHS = np.array([2, 6, 3])
TEXTS = random.integers(1, 9, (3, 6))
VALID = np.arange(6) < LENGTHS[:, None]


def reader(seed, mask="padding_mask"):
    """A transformer as in KerasHub: its mask is no Keras mask."""
    keras.utils.set_random_seed(seed)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    valid = keras.Input((None,), dtype="int32", name=mask)
    wide = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    x = layers.Embedding(9, 8, wide)(tokens)
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    x = x + attention(x, x, attention_mask=valid[:, None, :])
    x = layers.LayerNormalization(name="hidden")(x)
    return keras.Model({"tokens": tokens, mask: valid}, layers.Dense(3)(x))


def text_transfers(mask=None):
    hidden = {"teacher": "hidden", "student": "hidden"}
    maps = {"teacher": "attention:scores", "student": "attention:scores"}
    values = {"teacher": "attention/value", "student": "attention/value"}
    return [
        kd.Transfer(loss, mask=mask, **taps)
        for loss, taps in [
            (losses.SoftTargets(), {}),
            (keras.losses.MeanSquaredError(), hidden),
            (losses.ChannelWiseDistillation(), hidden),
            (losses.FeatureMatching("cosine"), hidden),
            (losses.SimilarityPreserving(), hidden),
            (losses.AttentionDivergence(), maps),
            (losses.AttentionMapMatching(), maps),
            (losses.SelfAttentionRelation(2), values),
        ]
    ]


def padded(inputs, length):
    more = ((0, 0), (0, length - 6))
    return {key: np.pad(each, more) for key, each in inputs.items()}


def text_logs(distiller, inputs, **data):
    logs = distiller.evaluate(inputs, **data, return_dict=True, verbose=0)
    parts = ("loss", "hard_loss", "student_losses")
    return {name: logs[name] for name in logs if name not in parts}


def by_texts(loss, teacher, student):
    """The loss's mean over texts cut to their lengths, or over their tokens."""
    if isinstance(loss, losses.SimilarityPreserving):  # compares texts
        pair = (x * VALID[..., None] for x in (teacher, student))
        return float(numpy(loss(*pair)))
    values = []
    for row, length in enumerate(LENGTHS):
        pair = [x[row : row + 1] for x in (teacher, student)]
        of_maps = pair[0].shape[1] != len(VALID[0])
        pair = [
            x[:, :, :length, :length] if of_maps else x[:, :length]
            for x in pair
        ]
        values.append(float(numpy(loss(*pair))))
    of_samples = getattr(loss, "per_sample", False)
    return np.average(values, weights=None if of_samples else LENGTHS)


def test_padding_counts_in_no_term():
    teacher, student = reader(1), reader(2)
    transfers = text_transfers()
    distiller = kd.Distiller(teacher, student, transfers)
    distiller.compile("sgd", None)
    inputs = {"tokens": TEXTS, "padding_mask": VALID.astype("int32")}
    found = text_logs(distiller, inputs)
    # By hand: of each text its own tokens.
    taps = ["", "hidden", "attention:scores", "attention/value"]
    sides = [
        {
            tap: numpy(each)
            for tap, each in kd.extract_features(m, inputs, taps).items()
        }
        for m in (teacher, student)
    ]
    for transfer in transfers:
        loss, (tap,) = transfer.loss, transfer.student_taps
        pair = [side[tap.text] for side in sides]
        value = by_texts(loss, *pair)
        name = f"{transfer.name}_loss"
        assert found[name] == pytest.approx(value, rel=2e-5), name
        assert value > 1e-4
    twice = text_logs(distiller, padded(inputs, 12))
    assert twice == pytest.approx(found, rel=2e-5)


def test_a_mask_is_named_or_left_out():
    inputs = {"tokens": TEXTS, "valid": VALID.astype("int32")}
    values = []
    for mask in ("valid", False):
        distiller = kd.Distiller(
            *(reader(seed, "valid") for seed in (1, 2)),
            kd.Transfer(losses.SoftTargets(), mask=mask),
        )
        distiller.compile("sgd", None)
        values += text_logs(distiller, inputs).values()
    t, s = (numpy(reader(seed, "valid")(inputs)) for seed in (1, 2))
    value = losses.SoftTargets()
    for found, weights in zip(values, (VALID, np.ones_like(VALID))):
        expected = value(t, s, weights.astype("float32"))
        assert found == pytest.approx(float(numpy(expected)), rel=1e-5)
    distiller = kd.Distiller(
        *(reader(seed) for seed in (1, 2)),
        kd.Transfer(losses.SoftTargets(), mask="valid", name="soft"),
    )
    distiller.compile("sgd", None)
    inputs["padding_mask"] = inputs.pop("valid")
    with pytest.raises(ValueError, match="'soft'.*Received: mask='valid'"):
        distiller.evaluate(inputs, verbose=0)
