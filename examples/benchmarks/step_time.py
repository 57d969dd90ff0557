"""How long a step of distillation takes, against a loop written by hand.

    KERAS_BACKEND=jax python examples/benchmarks/step_time.py

Four ways to train the same student with the same teacher, in one process and
in turns, so that a noisy machine is noisy for all of them:

- plain: the student alone, `Model.fit` (no teacher: what distillation adds to)
- by hand: a loop of the backend's own (`jax.jit`, `tf.function`, PyTorch)
- keras.distillation: the `Distiller` that comes with Keras
- keras_kd: `keras_kd.Distiller`

each with soft targets alone, and with one feature transfer as well. The
teacher does 1.8 times the student's work, about as ResNet-34 does of
ResNet-18's; with `--student 16 24 32` it is 5.5 times. Printed are the median
milliseconds a step over all turns, the ratio to the loop by hand (the median of
the ratios within each turn), the same of the CPU time of all cores (on which
other programs have less effect), and the growth of the process's memory as
the first keras_kd step runs. A plot goes to `step_time_<backend>.png`. About
five minutes on two CPU cores; `--smoke` takes a few seconds and its figures
mean nothing.

Ratios on the clock, two cores, batches of 64:

                                         torch    JAX  TensorFlow
    soft targets, keras_kd / by hand      1.03   1.04     1.03
    with features, keras_kd / by hand     1.02   1.01     1.03
    keras.distillation / keras_kd         1.21   0.99     0.97
    the same with features                1.90   1.33     1.67
    the same, `--student 16 24 32`        1.45   1.22     1.48

The last two rows are of the student's second pass, which `keras.distillation`
makes for the features: the smaller the student, the less there is to spare.
With the small one keras_kd takes 0.98, 1.04 and 1.00 of the loop by hand, and
with features 1.05, 1.05 and 1.00.

On TensorFlow, `compile` switches XLA on by default, while `tf.function` does
not. On a CPU, XLA makes these convolutions slower by half, whoever calls
them; so all four run without it, and with `--xla` all four run with it.

On TensorFlow each `fit` reads a `tf.data.Dataset` with autotuning off: with it
on, as Keras has it for NumPy arrays, half of all runs of `fit` left one of two
cores idle, the plain student's included (42 ms a step in place of 22).
"""

import argparse
import resource
import time

import keras
import matplotlib
import numpy as np
from keras import layers

import keras_kd as kd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BACKEND = keras.backend.backend()
TEMPERATURE = 4.0
HARD_WEIGHT, SOFT_WEIGHT, FEATURE_WEIGHT = 0.1, 0.9, 1.0
COMPILE = {"jit_compile": BACKEND == "jax"}
WIDTHS = {"teacher": (32, 64, 96), "student": (24, 48, 72)}


def make_model(name):
    """Residual blocks; the layer "features" has the same shape in both."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for width in WIDTHS[name]:
        x = layers.Conv2D(width, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        shortcut = layers.Activation("relu")(x)
        x = layers.Conv2D(width, 3, padding="same")(shortcut)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(layers.Add()([x, shortcut]))
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 1, name="features")(x)
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(x), name=name)


def make_pair():
    keras.utils.set_random_seed(0)
    return make_model("teacher"), make_model("student")


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit_on(model, x, y, batch):
    """A function that fits the model on all batches, in order."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)
        options = tf.data.Options()
        options.autotune.enabled = False
        batches = batches.prefetch(2).with_options(options)
        return lambda: model.fit(batches, shuffle=False, verbose=0)
    return lambda: model.fit(x, y, batch, shuffle=False, verbose=0)


# --- the four ways; each returns a function that trains on all batches ------


def plain_fit(x, y, batch, features):
    _, student = make_pair()
    student.compile(keras.optimizers.Adam(), cross_entropy(), **COMPILE)
    return fit_on(student, x, y, batch)


def keras_kd_fit(x, y, batch, features):
    teacher, student = make_pair()
    transfers = [
        kd.Transfer(kd.losses.SoftTargets(TEMPERATURE), weight=SOFT_WEIGHT)
    ]
    if features:
        transfers.append(
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="features",
                student="features",
                weight=FEATURE_WEIGHT,
            )
        )
    distiller = kd.Distiller(
        teacher, student, transfers, hard_weight=HARD_WEIGHT
    )
    distiller.compile(keras.optimizers.Adam(), cross_entropy(), **COMPILE)
    return fit_on(distiller, x, y, batch)


def keras_distillation_fit(x, y, batch, features):
    from keras import distillation

    teacher, student = make_pair()
    losses = [
        distillation.LogitsDistillation(
            temperature=TEMPERATURE, loss=keras.losses.KLDivergence()
        )
    ]
    weights = [SOFT_WEIGHT]
    if features:
        losses.append(
            distillation.FeatureDistillation(
                loss="mse",
                teacher_layer_name="features",
                student_layer_name="features",
            )
        )
        weights.append(FEATURE_WEIGHT)
    distiller = distillation.Distiller(
        teacher,
        student,
        distillation_losses=losses,
        distillation_loss_weights=weights,
        student_loss_weight=HARD_WEIGHT,
    )
    distiller.compile(
        optimizer=keras.optimizers.Adam(), loss=cross_entropy(), **COMPILE
    )
    return fit_on(distiller, x, y, batch)


def by_hand(x, y, batch, features):
    teacher, student = make_pair()
    if features:  # one pass that gives both, as one writes it by hand
        teacher, student = (
            keras.Model(m.input, [m.output, m.get_layer("features").output])
            for m in (teacher, student)
        )
    step = {"jax": jax_step, "tensorflow": tensorflow_step, "torch": torch_step}
    take_step = step[BACKEND](teacher, student, features)

    def train():
        for start in range(0, len(x), batch):
            loss = take_step(x[start : start + batch], y[start : start + batch])
        float(keras.ops.stop_gradient(loss))  # waits for the last step

    return train


def jax_step(teacher, student, features):
    import jax
    import jax.numpy as jnp

    optimizer = keras.optimizers.Adam()
    optimizer.build(student.trainable_variables)
    teacher_values = (
        [v.value for v in teacher.trainable_variables],
        [v.value for v in teacher.non_trainable_variables],
    )
    # Copies: the state is donated, the models keep theirs.
    state = [
        [jnp.array(v.value) for v in variables]
        for variables in (
            student.trainable_variables,
            student.non_trainable_variables,
            optimizer.variables,
        )
    ]

    def loss_of(trainable, non_trainable, x, y, teacher_output):
        student_output, non_trainable = student.stateless_call(
            trainable, non_trainable, x, training=True
        )
        logits, teacher_logits = student_output, teacher_output
        loss = 0.0
        if features:
            (logits, feature), (teacher_logits, teacher_feature) = (
                student_output,
                teacher_output,
            )
            loss = FEATURE_WEIGHT * jnp.mean((feature - teacher_feature) ** 2)
        log_probs = jax.nn.log_softmax(logits)
        hard = -jnp.mean(jnp.take_along_axis(log_probs, y[:, None], 1))
        p = jax.nn.log_softmax(teacher_logits / TEMPERATURE)
        q = jax.nn.log_softmax(logits / TEMPERATURE)
        soft = TEMPERATURE**2 * jnp.mean(jnp.sum(jnp.exp(p) * (p - q), -1))
        return loss + HARD_WEIGHT * hard + SOFT_WEIGHT * soft, non_trainable

    def step(state, teacher_values, x, y):
        trainable, non_trainable, slots = state
        teacher_output, _ = teacher.stateless_call(
            *teacher_values, x, training=False
        )
        (loss, non_trainable), gradients = jax.value_and_grad(
            loss_of, has_aux=True
        )(trainable, non_trainable, x, y, teacher_output)
        trainable, slots = optimizer.stateless_apply(
            slots, gradients, trainable
        )
        return loss, [trainable, non_trainable, slots]

    compiled = jax.jit(step, donate_argnums=0)

    def take_step(x, y):
        nonlocal state
        loss, state = compiled(state, teacher_values, x, y)
        return loss

    return take_step


def tensorflow_step(teacher, student, features):
    import tensorflow as tf

    optimizer = keras.optimizers.Adam()
    optimizer.build(student.trainable_variables)

    @tf.function(jit_compile=COMPILE["jit_compile"])
    def take_step(x, y):
        teacher_output = teacher(x, training=False)
        with tf.GradientTape() as tape:
            student_output = student(x, training=True)
            logits, teacher_logits = student_output, teacher_output
            loss = 0.0
            if features:
                (logits, feature), (teacher_logits, teacher_feature) = (
                    student_output,
                    teacher_output,
                )
                error = tf.math.squared_difference(feature, teacher_feature)
                loss = FEATURE_WEIGHT * tf.reduce_mean(error)
            hard = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            )
            p = tf.nn.log_softmax(teacher_logits / TEMPERATURE)
            q = tf.nn.log_softmax(logits / TEMPERATURE)
            divergence = tf.reduce_sum(tf.exp(p) * (p - q), -1)
            soft = TEMPERATURE**2 * tf.reduce_mean(divergence)
            loss += HARD_WEIGHT * hard + SOFT_WEIGHT * soft
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply(gradients, student.trainable_variables)
        return loss

    return lambda x, y: take_step(tf.constant(x), tf.constant(y))


def torch_step(teacher, student, features):
    import torch
    import torch.nn.functional as F

    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3, eps=1e-7)

    def take_step(x, y):
        x, y = torch.from_numpy(x), torch.from_numpy(y).long()
        with torch.no_grad():
            teacher_output = teacher(x, training=False)
        student_output = student(x, training=True)
        logits, teacher_logits = student_output, teacher_output
        loss = 0.0
        if features:
            (logits, feature), (teacher_logits, teacher_feature) = (
                student_output,
                teacher_output,
            )
            loss = FEATURE_WEIGHT * F.mse_loss(feature, teacher_feature)
        soft = TEMPERATURE**2 * F.kl_div(
            F.log_softmax(logits / TEMPERATURE, -1),
            F.log_softmax(teacher_logits / TEMPERATURE, -1),
            reduction="batchmean",
            log_target=True,
        )
        loss = loss + HARD_WEIGHT * F.cross_entropy(logits, y)
        loss = loss + SOFT_WEIGHT * soft
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return take_step


# --- measuring ----------------------------------------------------------------

WAYS = {
    "plain": plain_fit,
    "by hand": by_hand,
    "keras.distillation": keras_distillation_fit,
    "keras_kd": keras_kd_fit,
}
CASES = {"soft targets": False, "soft targets + features": True}


def peak_memory():
    """Peak of the process's memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(features, steps, turns, batch):
    """Milliseconds a step, `{way: [(on the clock, of all cores) a turn]}`."""
    random = np.random.default_rng(0)
    x = random.normal(size=(steps * batch, 32, 32, 3)).astype("float32")
    y = random.integers(0, 10, steps * batch).astype("int32")
    trainers = {}
    for name, make in WAYS.items():
        before = peak_memory()
        trainers[name] = make(x, y, batch, features)
        trainers[name]()  # compiles
        if name == "keras_kd":
            print(
                f"  memory at the first keras_kd steps: "
                f"+{peak_memory() - before:.0f} MiB"
            )
    times = {name: [] for name in WAYS}
    for turn in range(turns):
        # Another first one each turn: drift hits none more than another.
        names = list(WAYS)[turn % 4 :] + list(WAYS)[: turn % 4]
        for name in names:
            start = time.perf_counter(), time.process_time()
            trainers[name]()
            end = time.perf_counter(), time.process_time()
            times[name].append(1000 * np.subtract(end, start) / steps)
    return times


def report(case, times):
    print(f"\n{case} ({BACKEND})")
    print(
        f"{'':20} {'ms/step':>8} {'to by hand':>11} {'spread':>13} "
        f"{'CPU to by hand':>15}"
    )
    rows = {}
    for name, values in times.items():
        ratios = np.array(values) / np.array(times["by hand"])
        ratio, cpu_ratio = np.median(ratios, axis=0)
        low, high = np.quantile(ratios[:, 0], [0.25, 0.75])
        rows[name] = np.median(values, axis=0)[0], ratio
        print(
            f"{name:20} {rows[name][0]:8.1f} {ratio:11.3f} "
            f"{low:6.2f}-{high:.2f} {cpu_ratio:15.3f}"
        )
    gain = np.array(times["keras.distillation"]) / np.array(times["keras_kd"])
    gain, cpu_gain = np.median(gain, axis=0)
    print(f"keras.distillation / keras_kd: {gain:.2f} (CPU {cpu_gain:.2f})")
    return rows


def plot(results, path):
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for axis, (case, rows) in zip(axes, results.items()):
        axis.bar(list(rows), [ratio for _, ratio in rows.values()])
        axis.axhline(1.0, color="black", linewidth=0.8)
        axis.set_title(f"{case} ({BACKEND})", fontsize=10)
        axis.tick_params(axis="x", labelsize=8)
    axes[0].set_ylabel("time, by hand = 1")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"\nplot: {path}")


def main():
    parser = argparse.ArgumentParser(description="Times a distillation step.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--xla", action="store_true", help="on TensorFlow")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--student", type=int, nargs=3, metavar="WIDTH")
    arguments = parser.parse_args()
    WIDTHS["student"] = arguments.student or WIDTHS["student"]
    if arguments.smoke:
        arguments.steps, arguments.turns, arguments.batch = 2, 1, 4
        WIDTHS.update(teacher=(4,), student=(4,))
    if arguments.xla and BACKEND == "tensorflow":
        COMPILE["jit_compile"] = True
    results = {}
    for case, features in CASES.items():
        times = measure(
            features, arguments.steps, arguments.turns, arguments.batch
        )
        results[case] = report(case, times)
    plot(results, f"step_time_{BACKEND}.png")


if __name__ == "__main__":
    main()
