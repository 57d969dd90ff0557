"""Does each method work? All of them on one pair, over seeds.

    KERAS_BACKEND=jax python examples/benchmarks/methods.py
    KERAS_BACKEND=jax python examples/benchmarks/methods.py --pair transformers

A convolutional teacher has learned from the 60,000 images of MNIST. A small
student has 500 of them, the same for all methods. Each method is added to the
labels with its usual weight; "labels alone" has the labels and nothing else.
The methods that read attention maps have a pair of transformers instead.
Printed are the accuracy on the 10,000 test images (mean and standard deviation
over seeds), the agreement with the teacher, and the time of a training step
relative to that of soft targets; guides/benchmarks.md has them. On one CPU core
about 20 minutes (PyTorch), or 5 for the transformers. MNIST is downloaded, or
read from TFDS_DATA_DIR; `--smoke` takes scikit-learn's digits, one seed, two
epochs and three methods.
"""

import argparse
import time
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure

import keras_kd as kd
from keras_kd import losses

NUM_IMAGES = 500
BATCH_SIZE = 50
STAGES = ["stage1", "stage2"]


class Recipe(NamedTuple):
    """How a student is trained."""

    hard_weight: float
    transfers: list
    # The layer whose output the teacher's own head is to read, or None.
    head_after: str | None = None


def plain(hard_weight, loss, weight):
    """Labels, and a transfer between the logits."""
    return Recipe(hard_weight, [kd.Transfer(loss, weight=weight)])


def hint(loss, weight=1.0, tap="stage2", adapter=None, **kwargs):
    """Labels, and a transfer between layers of the same name."""
    return Recipe(
        1.0,
        [
            kd.Transfer(
                loss,
                teacher=tap,
                student=tap,
                adapter=adapter,
                weight=weight,
                **kwargs,
            )
        ],
    )


def embedded(loss, weight, width=128):
    """Labels, and a transfer between trained embeddings of the vectors."""
    return hint(
        loss,
        weight,
        "vector",
        layers.Dense(width),
        teacher_adapter=layers.Dense(width),
    )


def log_sum_distance():
    # The projection ends in unit variance, as this distance wants it.
    projection = [layers.Dense(128), layers.BatchNormalization(scale=False)]
    return hint(
        losses.LogSumDistance(),
        tap="vector",
        adapter=keras.Sequential(projection),
        teacher_adapter=layers.BatchNormalization(center=False, scale=False),
    )


def factor_transfer(teacher, images):
    """The paraphraser is trained before the student, and then frozen."""
    paraphraser = kd.layers.Paraphraser()
    stage = keras.Model(teacher.input, teacher.get_layer("stage2").output)
    maps = stage.predict(images, verbose=0)
    inputs = keras.Input(maps.shape[1:])
    autoencoder = keras.Model(inputs, paraphraser(inputs, reconstruct=True))
    autoencoder.compile(keras.optimizers.Adam(1e-3), "mse")
    autoencoder.fit(maps, maps, batch_size=BATCH_SIZE, epochs=30, verbose=0)
    paraphraser.trainable = False
    return hint(
        losses.FactorTransfer(),
        500.0,
        adapter=kd.layers.Translator(),
        teacher_adapter=paraphraser,
    )


def reused_head():
    transfer = kd.Transfer(
        losses.FeatureMatching(), teacher="stage2", student="projector"
    )
    return Recipe(0.0, [transfer], head_after="stage2")


# Each makes a recipe, of the teacher and the student's images.
METHODS = {
    "labels alone": lambda *_: Recipe(1.0, []),
    "soft targets": lambda *_: plain(0.1, losses.SoftTargets(4.0), 0.9),
    "standardized soft targets": lambda *_: plain(
        0.1, losses.SoftTargets(2.0, standardize=True), 9.0
    ),
    "binary soft targets": lambda *_: plain(
        0.1, losses.BinarySoftTargets(), 0.9
    ),
    "logit matching": lambda *_: plain(0.1, losses.LogitMatching(), 0.1),
    "decoupled KD": lambda *_: plain(1.0, losses.DecoupledKD(), 1.0),
    "DIST": lambda *_: plain(
        1.0, losses.DIST(inter_weight=2, intra_weight=2), 1.0
    ),
    "streamlined direction": lambda *_: plain(
        1.0, losses.StreamlinedDirection(), 1.0
    ),
    "virtual teacher": lambda *_: plain(0.9, losses.VirtualTeacher(), 0.1),
    "margin-mixed teacher": lambda *_: plain(
        0.0, losses.MarginMixedTeacher(), 1.0
    ),
    "target enhancement": lambda *_: plain(
        1.0, losses.TargetEnhancement(), 1.0
    ),
    "reverse KL": lambda *_: plain(0.1, losses.ReverseKL(), 0.9),
    "Jensen-Shannon": lambda *_: plain(0.1, losses.JensenShannon(), 0.9),
    "skew KL": lambda *_: plain(0.1, losses.SkewKL(), 0.9),
    "skew reverse KL": lambda *_: plain(0.1, losses.SkewReverseKL(), 0.9),
    "top-k targets": lambda *_: plain(0.1, losses.TopKTargets(k=3), 0.9),
    # A teacher with 99 % accuracy and high confidence adds little at T = 1.
    "DIST, T = 4": lambda *_: plain(1.0, losses.DIST(temperature=4.0), 1.0),
    "margin-mixed teacher, T = 4": lambda *_: plain(
        0.0, losses.MarginMixedTeacher(temperature=4.0), 1.0
    ),
    "target enhancement, T = 4": lambda *_: plain(
        1.0, losses.TargetEnhancement(temperature=4.0), 1.0
    ),
    "Jensen-Shannon, T = 4": lambda *_: plain(
        0.1, losses.JensenShannon(temperature=4.0), 0.9
    ),
    "skew KL, T = 4": lambda *_: plain(
        0.1, losses.SkewKL(temperature=4.0), 0.9
    ),
    "top-k targets, T = 4": lambda *_: plain(
        0.1, losses.TopKTargets(k=3, temperature=4.0), 0.9
    ),
    "FitNets hint": lambda *_: hint(
        losses.FeatureMatching(), adapter=kd.layers.FeatureAdapter()
    ),
    "attention transfer": lambda *_: hint(losses.AttentionTransfer(), 1000.0),
    "activation boundaries": lambda *_: hint(
        losses.ActivationBoundaries(),
        0.003,
        "stage2_norm",
        kd.layers.FeatureAdapter(),
    ),
    "margin ReLU": lambda *_: hint(
        losses.MarginReLU(), 1e-3, "stage2_norm", kd.layers.FeatureAdapter()
    ),
    "variational information": lambda *_: hint(
        losses.VariationalInformation(),
        adapter=kd.layers.VariationalRegressor(),
    ),
    "factor transfer": factor_transfer,
    "factor transfer, maps": lambda *_: hint(
        losses.FactorTransfer(form="map"), 200.0
    ),
    "knowledge review": lambda *_: hint(
        losses.HierarchicalContext(), 1.0, STAGES, kd.layers.ReviewFusion()
    ),
    "reused head (SimKD)": lambda *_: reused_head(),
    "channel-wise": lambda *_: hint(
        losses.ChannelWiseDistillation(),
        50.0,
        adapter=kd.layers.FeatureAdapter(),
    ),
    "masked generation": lambda *_: hint(
        losses.FeatureMatching(),
        7e-5 * 64 * 7 * 7,
        adapter=kd.layers.MaskedGeneration(),
    ),
    "neuron selectivity": lambda *_: hint(losses.NeuronSelectivity(), 50.0),
    "singular vectors": lambda *_: hint(
        losses.SingularVectors(), 1.0, STAGES, kd.layers.FeatureAdapter()
    ),
    "flow of solution": lambda *_: hint(
        losses.FlowOfSolution(), 50.0, STAGES, kd.layers.FeatureAdapter()
    ),
    "log-sum distance": lambda *_: log_sum_distance(),
    "relational distance": lambda *_: hint(
        losses.RelationalDistance(), 25.0, "vector"
    ),
    "relational angle": lambda *_: hint(
        losses.RelationalAngle(), 50.0, "vector"
    ),
    "similarity preserving": lambda *_: hint(
        losses.SimilarityPreserving(), 3000.0
    ),
    "probabilistic transfer": lambda *_: hint(
        losses.ProbabilisticTransfer(), 3e4, "vector"
    ),
    "inter-channel correlation": lambda *_: hint(
        losses.InterChannelCorrelation(),
        2.0,
        adapter=kd.layers.FeatureAdapter(),
    ),
    "correlation congruence": lambda *_: embedded(
        losses.CorrelationCongruence(), 0.02
    ),
    "contrastive, in the batch": lambda *_: embedded(
        losses.ContrastiveRepresentation(), 0.8
    ),
    "contrastive, with memory": lambda teacher, images: embedded(
        losses.ContrastiveMemory(num_samples=len(images), num_negatives=256),
        0.8,
    ),
}


def projections(attention):
    return [f"{attention}/{name}" for name in ("query", "key", "value")]


def attention_maps(loss, weight):
    """Labels, and the maps of both blocks of the student."""
    taps = ["attention1:scores", "attention2:scores"]
    return hint(loss, weight, taps, kd.layers.AttentionAdapter())


def mini_lm():
    """The last block's maps, and the relation among its values."""
    maps = kd.Transfer(
        losses.AttentionDivergence(),
        teacher="attention2:scores",
        student="attention2:scores",
        adapter=kd.layers.AttentionAdapter(),
    )
    values = kd.Transfer(
        losses.SelfAttentionRelation(relation_heads=4),
        teacher="attention2/value",
        student="attention2/value",
    )
    return Recipe(1.0, [maps, values])


TRANSFORMER_METHODS = {
    "labels alone": METHODS["labels alone"],
    "soft targets": METHODS["soft targets"],
    "attention maps (TinyBERT)": lambda *_: attention_maps(
        losses.AttentionMapMatching(), 16.0**2
    ),
    "attention, values (MiniLM)": lambda *_: mini_lm(),
    "relations (MiniLMv2)": lambda *_: hint(
        losses.SelfAttentionRelation(relation_heads=8),
        tap=projections("attention2"),
    ),
}


def load_data(smoke):
    """Train and test images (values 0 to 1) and labels."""
    if smoke:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = images.reshape(-1, 8, 8, 1) / 16.0
        images = images.repeat(2, axis=1).repeat(2, axis=2).astype("float32")
        return (images[:1000], labels[:1000]), (images[1000:], labels[1000:])
    import tensorflow_datasets as tfds

    sets = tfds.load("mnist", batch_size=-1, as_supervised=True)
    pairs = [tfds.as_numpy(sets[name]) for name in ("train", "test")]
    return [(x.astype("float32") / 255, y) for x, y in pairs]


def build_convolutional(width, shape, name):
    """Two stages of maps, a vector, logits."""
    x = inputs = keras.Input(shape)
    for stage, channels in zip(STAGES, (width, 2 * width)):
        x = layers.Conv2D(
            channels, 3, strides=2, padding="same", name=f"{stage}_conv"
        )(x)
        # Momentum 0.9: in a few hundred steps, Keras' 0.99 would lag behind.
        x = layers.BatchNormalization(momentum=0.9, name=f"{stage}_norm")(x)
        x = layers.Activation("relu", name=stage)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(4 * width, activation="relu", name="vector")(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x), name=name)


class Positions(layers.Layer):
    """Adds a trained vector to each token."""

    def build(self, input_shape):
        self.vectors = self.add_weight(shape=input_shape[1:])

    def call(self, tokens):
        return tokens + self.vectors


def build_transformer(width, shape, name):
    """Sixteen patches, two blocks of attention, logits."""
    patch = shape[0] // 4
    inputs = keras.Input(shape)
    x = layers.Conv2D(width, patch, strides=patch)(inputs)
    x = layers.Reshape((16, width))(x)
    x = Positions()(x)
    for block in ("1", "2"):
        normed = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(
            width // 8, 8, name=f"attention{block}"
        )(normed, normed)
        hidden = layers.LayerNormalization()(x)
        hidden = layers.Dense(2 * width, activation="gelu")(hidden)
        x = x + layers.Dense(width)(hidden)
    x = layers.GlobalAveragePooling1D(name="vector")(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x), name=name)


class Pair(NamedTuple):
    """A kind of model, and what is tried on it."""

    build: object
    teacher_width: int
    student_width: int
    teacher_epochs: int
    methods: dict


PAIRS = {
    "convolutions": Pair(build_convolutional, 32, 6, 5, METHODS),
    "transformers": Pair(build_transformer, 64, 16, 10, TRANSFORMER_METHODS),
}


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train_teacher(pair, images, labels, epochs):
    keras.utils.set_random_seed(0)
    teacher = pair.build(pair.teacher_width, images.shape[1:], "teacher")
    steps = epochs * -(-len(images) // 128)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    teacher.compile(keras.optimizers.Adam(rate), cross_entropy())
    teacher.fit(images, labels, batch_size=128, epochs=epochs, verbose=0)
    return teacher


class EpochTime(keras.callbacks.Callback):
    """Seconds of the fastest epoch: other programs only slow it down."""

    seconds = float("inf")

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = min(self.seconds, time.perf_counter() - self.start)


def build_student(pair, recipe, teacher, shape):
    student = pair.build(pair.student_width, shape, "student")
    if recipe.head_after is None:
        return student
    output = student.get_layer(recipe.head_after).output
    backbone = keras.Model(student.input, output)
    return kd.students.with_teacher_head(backbone, teacher, recipe.head_after)


def run(method, pair, seed, teacher, train_set, test_set, epochs):
    """Trains a student; accuracy and agreement in %, seconds."""
    keras.utils.set_random_seed(seed)
    images, labels = train_set
    recipe = pair.methods[method](teacher, images)
    student = build_student(pair, recipe, teacher, images.shape[1:])
    distiller = kd.Distiller(
        teacher, student, recipe.transfers, hard_weight=recipe.hard_weight
    )
    steps = epochs * -(-len(images) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    distiller.compile(keras.optimizers.Adam(rate), cross_entropy())
    timer = EpochTime()
    distiller.fit(
        images,
        {"labels": labels, "sample_index": np.arange(len(images))},
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=[timer],
    )
    # The student alone: a method's memory of samples has none of these.
    predictions = distiller.student.predict(
        test_set[0], batch_size=500, verbose=0
    ).argmax(-1)
    of_teacher = teacher.predict(test_set[0], batch_size=500, verbose=0).argmax(
        -1
    )
    return (
        100 * np.mean(predictions == test_set[1]),
        100 * np.mean(predictions == of_teacher),
        timer.seconds,
    )


def print_row(name, results, seconds_of_soft_targets):
    accuracy, agreement, seconds = np.array(results).T
    spread = np.std(accuracy, ddof=1) if len(accuracy) > 1 else 0.0
    print(
        f"| {name:29} | {np.mean(accuracy):5.1f} ± {spread:.1f} "
        f"| {np.mean(agreement):5.1f} "
        f"| {np.min(seconds) / seconds_of_soft_targets:5.2f} |",
        flush=True,
    )


def plot(results, path):
    figure = Figure(figsize=(7, 0.28 * len(results) + 1), layout="constrained")
    axis = figure.subplots()
    for place, rows in enumerate(results.values()):
        accuracies = [row[0] for row in rows]
        axis.barh(place, np.mean(accuracies), color="tab:blue", alpha=0.4)
        axis.plot(accuracies, [place] * len(rows), "o", color="black", ms=3)
    axis.axvline(np.mean([row[0] for row in results["labels alone"]]), ls=":")
    axis.set_yticks(range(len(results)), list(results), fontsize=8)
    axis.margins(y=0.01)
    axis.invert_yaxis()
    lowest = min(row[0] for rows in results.values() for row in rows)
    axis.set_xlim(max(lowest - 2, 0), 100)
    axis.set_xlabel(
        "test accuracy in % (a dot for each seed; dotted: labels alone)"
    )
    figure.savefig(path, dpi=110)
    print(f"\nFigure: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--pair", choices=list(PAIRS), default="convolutions")
    parser.add_argument("--output", default="methods.png")
    parser.add_argument("--methods", nargs="*")
    arguments = parser.parse_args()
    pair = PAIRS[arguments.pair]
    seeds, epochs = arguments.seeds, arguments.epochs
    teacher_epochs = pair.teacher_epochs
    if arguments.smoke:
        seeds, epochs, teacher_epochs = 1, 2, 1
        arguments.methods = arguments.methods or list(pair.methods)[-1:]
    # Soft targets come first: the others' times are relative to theirs.
    first = ["soft targets", "labels alone"]
    methods = arguments.methods or pair.methods
    methods = first + [method for method in methods if method not in first]

    (images, labels), test_set = load_data(arguments.smoke)
    teacher = train_teacher(pair, images, labels, teacher_epochs)
    few = np.random.default_rng(0).permutation(len(images))[:NUM_IMAGES]
    train_set = images[few], labels[few]
    right = teacher.predict(test_set[0], verbose=0).argmax(-1) == test_set[1]
    print(f"teacher: {100 * np.mean(right):.1f} %")
    print("| method | accuracy % | agreement % | time |\n|---|---|---|---|")
    results, reference = {}, None
    for method in methods:
        results[method] = [
            run(method, pair, seed, teacher, train_set, test_set, epochs)
            for seed in range(seeds)
        ]
        reference = reference or np.min([r[2] for r in results[method]])
        print_row(method, results[method], reference)
    plot(results, arguments.output)


if __name__ == "__main__":
    main()
