"""Does each method work? All of them on one pair, over seeds.

    KERAS_BACKEND=jax python examples/benchmarks/methods.py

A convolutional teacher has learned from the 60,000 images of MNIST. A small
student has 500 of them, the same for all methods. Each method is added to the
labels with its usual weight; "labels alone" has the labels and nothing else.
Printed are the accuracy on the 10,000 test images (mean and standard deviation
over seeds), the agreement with the teacher, and the time of a training step
beside that of soft targets. MNIST is downloaded, or read from TFDS_DATA_DIR;
`--smoke` takes scikit-learn's digits, one seed, two epochs and three methods.
"""

import argparse
import time

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure

import keras_kd as kd
from keras_kd import losses

NUM_IMAGES = 500
BATCH_SIZE = 50


def hint(loss, weight, tap="stage2", adapter=True):
    """A transfer between layers of the same name on both sides."""
    return kd.Transfer(
        loss,
        teacher=tap,
        student=tap,
        adapter=kd.layers.FeatureAdapter() if adapter else None,
        weight=weight,
    )


def soft(loss, weight):
    """A transfer between the logits."""
    return kd.Transfer(loss, weight=weight)


def embedded(loss, weight):
    """A transfer between trained embeddings of the vectors."""
    return kd.Transfer(
        loss,
        teacher="vector",
        student="vector",
        adapter=layers.Dense(128),
        teacher_adapter=layers.Dense(128),
        weight=weight,
    )


def normalized():
    """A projection of unit variance, as the log-sum distance wants it."""
    return [layers.Dense(64), layers.BatchNormalization(scale=False)]


# Name: weight of the labels, and the transfer.
METHODS = {
    "labels alone": lambda: (1.0, None),
    "soft targets": lambda: (0.1, soft(losses.SoftTargets(4.0), 0.9)),
    "standardized soft targets": lambda: (
        0.1,
        soft(losses.SoftTargets(2.0, standardize=True), 9.0),
    ),
    "logit matching": lambda: (0.1, soft(losses.LogitMatching(), 0.1)),
    "decoupled KD": lambda: (1.0, soft(losses.DecoupledKD(), 1.0)),
    "DIST": lambda: (1.0, soft(losses.DIST(inter_weight=2, intra_weight=2), 1)),
    "streamlined direction": lambda: (
        1.0,
        soft(losses.StreamlinedDirection(), 1.0),
    ),
    "virtual teacher": lambda: (0.9, soft(losses.VirtualTeacher(), 0.1)),
    "margin-mixed teacher": lambda: (
        0.0,
        soft(losses.MarginMixedTeacher(), 1.0),
    ),
    "target enhancement": lambda: (1.0, soft(losses.TargetEnhancement(), 1.0)),
    "reverse KL": lambda: (0.1, soft(losses.ReverseKL(), 0.9)),
    "Jensen-Shannon": lambda: (0.1, soft(losses.JensenShannon(), 0.9)),
    "skew KL": lambda: (0.1, soft(losses.SkewKL(), 0.9)),
    "skew reverse KL": lambda: (0.1, soft(losses.SkewReverseKL(), 0.9)),
    "top-k targets": lambda: (0.1, soft(losses.TopKTargets(k=3), 0.9)),
    "FitNets hint": lambda: (1.0, hint(losses.FeatureMatching(), 1.0)),
    "attention transfer": lambda: (
        1.0,
        hint(losses.AttentionTransfer(), 1000.0, adapter=False),
    ),
    "activation boundaries": lambda: (
        1.0,
        hint(losses.ActivationBoundaries(), 0.003, tap="stage2_norm"),
    ),
    "margin ReLU": lambda: (
        1.0,
        hint(losses.MarginReLU(), 1e-3, tap="stage2_norm"),
    ),
    "variational information": lambda: (
        1.0,
        kd.Transfer(
            losses.VariationalInformation(),
            teacher="stage2",
            student="stage2",
            adapter=kd.layers.VariationalRegressor(),
        ),
    ),
    "factor transfer": lambda: (
        1.0,
        hint(losses.FactorTransfer(form="map"), 200.0, adapter=False),
    ),
    "channel-wise": lambda: (1.0, hint(losses.ChannelWiseDistillation(), 50.0)),
    "masked generation": lambda: (
        1.0,
        kd.Transfer(
            losses.FeatureMatching(),
            teacher="stage2",
            student="stage2",
            adapter=kd.layers.MaskedGeneration(),
            weight=7e-5 * 64 * 7 * 7,
        ),
    ),
    "neuron selectivity": lambda: (
        1.0,
        hint(losses.NeuronSelectivity(), 50.0, adapter=False),
    ),
    "hierarchical context": lambda: (
        1.0,
        hint(losses.HierarchicalContext(), 1.0),
    ),
    "inter-channel correlation": lambda: (
        1.0,
        hint(losses.InterChannelCorrelation(), 2.0),
    ),
    "relational distance": lambda: (
        1.0,
        hint(losses.RelationalDistance(), 25.0, tap="vector", adapter=False),
    ),
    "relational angle": lambda: (
        1.0,
        hint(losses.RelationalAngle(), 50.0, tap="vector", adapter=False),
    ),
    "similarity preserving": lambda: (
        1.0,
        hint(losses.SimilarityPreserving(), 3000.0, adapter=False),
    ),
    "probabilistic transfer": lambda: (
        1.0,
        hint(losses.ProbabilisticTransfer(), 3e4, tap="vector", adapter=False),
    ),
    "correlation congruence": lambda: (
        1.0,
        embedded(losses.CorrelationCongruence(), 0.02),
    ),
    "contrastive representation": lambda: (
        1.0,
        embedded(losses.ContrastiveRepresentation(), 0.8),
    ),
    "log-sum distance": lambda: (
        1.0,
        kd.Transfer(
            losses.LogSumDistance(),
            teacher="vector",
            student="vector",
            adapter=keras.Sequential(normalized()),
            teacher_adapter=layers.BatchNormalization(
                center=False, scale=False
            ),
        ),
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


def build(width, shape, name):
    """Two stages of maps, a vector, logits."""
    x = inputs = keras.Input(shape)
    for number, channels in enumerate((width, 2 * width), start=1):
        stage = f"stage{number}"
        x = layers.Conv2D(
            channels, 3, strides=2, padding="same", name=f"{stage}_conv"
        )(x)
        # Momentum 0.9: in a few hundred steps, Keras' 0.99 would lag behind.
        x = layers.BatchNormalization(momentum=0.9, name=f"{stage}_norm")(x)
        x = layers.Activation("relu", name=stage)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(4 * width, activation="relu", name="vector")(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x), name=name)


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train_teacher(images, labels, epochs):
    keras.utils.set_random_seed(0)
    teacher = build(32, images.shape[1:], "teacher")
    steps = epochs * -(-len(images) // 128)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    teacher.compile(keras.optimizers.Adam(rate), cross_entropy())
    teacher.fit(images, labels, batch_size=128, epochs=epochs, verbose=0)
    return teacher


class StepTime(keras.callbacks.Callback):
    """Seconds of the epochs but the first, which compiles."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.start = time.perf_counter()

    def on_train_end(self, logs=None):
        start = getattr(self, "start", None)
        self.seconds = time.perf_counter() - start if start else float("nan")


def run(method, seed, teacher, train_set, test_set, epochs):
    """Trains a student; accuracy and agreement in %, seconds."""
    keras.utils.set_random_seed(seed)
    images, labels = train_set
    hard_weight, transfer = METHODS[method]()
    student = build(6, images.shape[1:], "student")
    transfers = [] if transfer is None else [transfer]
    distiller = kd.Distiller(
        teacher, student, transfers, hard_weight=hard_weight
    )
    steps = epochs * -(-len(images) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    distiller.compile(
        keras.optimizers.Adam(rate),
        cross_entropy(),
        metrics=["accuracy", kd.metrics.TeacherAgreement()],
    )
    timer = StepTime()
    distiller.fit(
        images,
        labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=[timer],
    )
    logs = distiller.evaluate(
        *test_set, batch_size=500, verbose=0, return_dict=True
    )
    return (
        100 * logs["accuracy"],
        100 * logs["teacher_agreement"],
        timer.seconds,
    )


def print_row(name, results, seconds_of_soft_targets):
    accuracy, agreement, seconds = np.array(results).T
    spread = np.std(accuracy, ddof=1) if len(accuracy) > 1 else 0.0
    print(
        f"| {name:28} | {np.mean(accuracy):5.1f} ± {spread:.1f} "
        f"| {np.mean(agreement):5.1f} "
        f"| {np.median(seconds) / seconds_of_soft_targets:5.2f} |",
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
    axis.invert_yaxis()
    lowest = min(row[0] for rows in results.values() for row in rows)
    axis.set_xlim(max(lowest - 2, 0), 100)
    axis.set_xlabel("test accuracy in % (a dot a seed; dotted: labels alone)")
    figure.savefig(path, dpi=110)
    print(f"\nFigure: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--output", default="methods.png")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS))
    arguments = parser.parse_args()
    seeds, epochs, teacher_epochs = arguments.seeds, arguments.epochs, 5
    if arguments.smoke:
        seeds, epochs, teacher_epochs = 1, 2, 1
        arguments.methods = arguments.methods or ["FitNets hint"]
    # Soft targets come first: the others' times are relative to theirs.
    first = ["soft targets", "labels alone"]
    methods = arguments.methods or METHODS
    methods = first + [method for method in methods if method not in first]

    (images, labels), test_set = load_data(arguments.smoke)
    teacher = train_teacher(images, labels, teacher_epochs)
    few = np.random.default_rng(0).permutation(len(images))[:NUM_IMAGES]
    train_set = images[few], labels[few]
    right = teacher.predict(test_set[0], verbose=0).argmax(-1) == test_set[1]
    print(f"teacher: {100 * np.mean(right):.1f} %")
    print("| method | accuracy % | agreement % | time |\n|---|---|---|---|")
    results, reference = {}, None
    for method in methods:
        results[method] = [
            run(method, seed, teacher, train_set, test_set, epochs)
            for seed in range(seeds)
        ]
        reference = reference or np.median([r[2] for r in results[method]])
        print_row(method, results[method], reference)
    plot(results, arguments.output)


if __name__ == "__main__":
    main()
