"""From an ensemble of CNNs to one small student with separable convolutions.

    KERAS_BACKEND=tensorflow python examples/ensemble_to_mobilenet.py

Five networks are trained separately, each on 500 images of MNIST of its own.
The student, a very small MobileNet, has 500 labeled images, too, and 9,500
without a label. On these it learns the mean of the five networks' soft targets,
which `kd.teachers.Ensemble` computes in each step. The images are downloaded,
or read from TFDS_DATA_DIR. Three seeds of all models, mean and standard
deviation of the errors on the 10,000 test images; 26 minutes on a CPU core
shared with several other programs; on TensorFlow:

                            test errors %     parameters  multiply-adds
one member                    7.32 ± 0.23        105,866      1,117,056
ensemble of five              5.27 ± 0.18        529,330      5,585,280
student alone                16.97 ± 1.57          3,146        150,064
student alone, shifted        6.25 ± 0.21          3,146        150,064
student, from one member      6.48 ± 0.22          3,146        150,064
student, from the ensemble    5.40 ± 0.25          3,146        150,064

One network is nearly as good as the ensemble of five, with 168 times fewer
parameters and 37 times fewer multiply-adds. It predicts 500 images 5 times
faster (36 ms in place of 186): depthwise convolutions have few operations, but
each takes longer.

The student alone lacks images, not parameters: with its 500 images shifted anew
in each step it is better than the members, which are trained without shifts. It
is still worse than the student that is distilled from the ensemble, without
shifts.

Reference: Hinton, Vinyals and Dean, 2015, "Distilling the Knowledge in a
Neural Network", sections 3 and 4, arXiv 1503.02531. (Their members share all
labels and differ only in their random start, and all of the data is labeled.)
"""

import argparse
import time

import keras
import numpy as np
import tensorflow_datasets as tfds
from keras import layers
from matplotlib.figure import Figure

import keras_kd as kd

MEMBER, ENSEMBLE, ALONE, SHIFTED, FROM_ONE, FROM_ALL = ROWS = [
    "one member",
    "ensemble of five",
    "student alone",
    "student alone, shifted",
    "student, from one member",
    "student, from the ensemble",
]
MEMBERS = 5
NUM_LABELS = 500
TEMPERATURE = 2.0


def load_data(members, unlabeled, num_labels, test_size):
    """Labeled images for each member and the student, others, a test set.

    The settings were tried on training images from 50,000 to 55,000.
    """
    sets = tfds.load("mnist", batch_size=-1, as_supervised=True)
    pairs = [tfds.as_numpy(sets[name]) for name in ("train", "test")]
    (x, y), test = [(x.astype("float32") / 255, y) for x, y in pairs]
    y = y.astype("int32")
    parts = np.arange(members * num_labels).reshape(members, num_labels)
    own = slice(members * num_labels, members * num_labels + unlabeled)
    # Only the first of the student's images have a label, the others have -1.
    labels = np.where(np.arange(unlabeled) < num_labels, y[own], -1)
    members = [(x[part], y[part]) for part in parts]
    return members, (x[own], labels), tuple(part[:test_size] for part in test)


def build_member():
    stack = [
        keras.Input((28, 28, 1)),
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(64, activation="relu"),
        layers.Dense(10),
    ]
    return keras.Sequential(stack)


def build_student():
    """A very small MobileNet: each convolution is depthwise, then pointwise."""
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = activated(x)
    for width, strides in [(16, 1), (32, 2), (32, 1)]:
        x = layers.DepthwiseConv2D(
            3, strides=strides, padding="same", use_bias=False
        )(x)
        x = activated(x)
        x = layers.Conv2D(width, 1, use_bias=False)(x)
        x = activated(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def activated(x):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def with_shifts(student):
    """Shifts images anew in training, by up to two pixels each way."""
    shift = layers.RandomTranslation(2 / 28, 2 / 28, fill_mode="constant")
    return keras.Sequential([keras.Input((28, 28, 1)), shift, student])


def fit(name, model, x, y, *, rate, steps, batch_size=50):
    """Adam with a cosine to 0; the last epoch counts."""
    start = time.time()
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    model.compile(keras.optimizers.Adam(schedule), loss)
    epochs = max(1, steps * batch_size // len(x))
    model.fit(x, y, batch_size, epochs, verbose=0)
    print(f"{name}: {time.time() - start:.0f} s", flush=True)
    return model


def distill(name, teacher, x, y, steps):
    soft = kd.Transfer(kd.losses.SoftTargets(TEMPERATURE), weight=0.9)
    distiller = kd.Distiller(teacher, build_student(), [soft], hard_weight=0.1)
    settings = {"rate": 1e-2, "steps": steps, "batch_size": 100}
    return fit(name, distiller, x, y, **settings).student


def run_seed(seed, members_data, x, y, steps):
    """Trains members and students; returns the models by row."""
    keras.utils.set_random_seed(seed)
    members = [
        fit(
            f"member {place}",
            build_member(),
            *data,
            rate=2e-3,
            steps=steps // 2,
        )
        for place, data in enumerate(members_data)
    ]
    ensemble = kd.teachers.Ensemble(members, temperature=TEMPERATURE)
    few = x[y >= 0], y[y >= 0]
    alone, shifted = build_student(), build_student()
    fit("student alone", alone, *few, rate=1e-2, steps=steps)
    fit("shifted", with_shifts(shifted), *few, rate=1e-2, steps=steps)
    return {
        MEMBER: members,
        ENSEMBLE: ensemble,
        ALONE: alone,
        SHIFTED: shifted,
        FROM_ONE: distill("student, from one", members[0], x, y, steps),
        FROM_ALL: distill("student, from all", ensemble, x, y, steps),
    }


def error(model, images, labels):
    """Wrong predictions, in percent; of several models the mean."""
    if isinstance(model, list):
        return np.mean([error(each, images, labels) for each in model])
    logits = model.predict(images, batch_size=1000, verbose=0)
    return 100 * np.mean(logits.argmax(axis=-1) != labels)


def multiply_adds(model):
    """Multiplications of all convolutions and dense layers for an image."""
    if isinstance(model, kd.teachers.Ensemble):
        return sum(multiply_adds(member) for member in model.members)
    kinds = layers.Conv2D, layers.DepthwiseConv2D, layers.Dense
    return sum(
        int(np.prod(layer.output.shape[1:-1])) * int(np.prod(kernel.shape))
        for layer in model.layers
        if isinstance(layer, kinds)
        for kernel in layer.trainable_variables[:1]
    )


def duration(model, images):
    """Milliseconds to predict the images in one call."""
    durations = []
    for _ in range(10):
        start = time.perf_counter()
        model.predict_on_batch(images)
        durations.append(time.perf_counter() - start)
    return 1000 * np.median(durations[1:])


def print_table(models, errors, images):
    heads = ["test errors %", "parameters", "multiply-adds", "ms for 500"]
    print(f"\n{'':26}" + "".join(f"{head:>15}" for head in heads))
    for row in ROWS:
        values = [each[row] for each in errors]
        ddof = min(1, len(values) - 1)
        model = models[row][0] if row == MEMBER else models[row]
        cells = [
            f"{np.mean(values):.2f} ± {np.std(values, ddof=ddof):.2f}",
            f"{model.count_params():,}",
            f"{multiply_adds(model):,}",
            f"{duration(model, images):.1f}",
        ]
        print(f"{row:26}" + "".join(f"{cell:>15}" for cell in cells))


def plot(path, models, errors):
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for row in ROWS:
        model = models[row][0] if row == MEMBER else models[row]
        cost = multiply_adds(model)
        values = [each[row] for each in errors]
        axes.plot([cost] * len(values), values, "o", alpha=0.6, label=row)
    axes.set(xscale="log", xlim=(1e5, 1e7))
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.set_xlabel("multiply-adds for an image")
    axes.set_ylabel("test errors, % (a dot for each seed)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--output", default="ensemble_to_mobilenet.png")
    arguments = parser.parse_args()
    seeds, steps, members = 3, 1000, MEMBERS
    sizes = 10000, NUM_LABELS, None
    if arguments.smoke:
        seeds, steps, members = 1, 6, 2
        sizes = 200, 50, 500

    members_data, own, test = load_data(members, *sizes)
    errors = []
    for seed in range(seeds):
        models = run_seed(seed, members_data, *own, steps)
        errors.append({row: error(models[row], *test) for row in ROWS})
    print_table(models, errors, test[0][:500])
    plot(arguments.output, models, errors)
    print(f"\nFigure: {arguments.output}")


if __name__ == "__main__":
    main()
