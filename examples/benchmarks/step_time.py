"""How long a step of distillation takes, against a loop written by hand.

    KERAS_BACKEND=jax python examples/benchmarks/step_time.py
    KERAS_BACKEND=jax python examples/benchmarks/step_time.py --pair bert
    KERAS_BACKEND=jax python examples/benchmarks/step_time.py --pair unet
    KERAS_BACKEND=jax python examples/benchmarks/step_time.py --generator
    (the same with `--memory`: peaks in place of times)

Three ways to train the same student with the same teacher, in one process and
in turns, so that a noisy machine is noisy for all of them:

- plain: the student alone, `Model.fit` (no teacher: what distillation adds to)
- by hand: a loop of the backend's own (`jax.jit`, `tf.function`, PyTorch)
- keras_kd: `keras_kd.Distiller`

and of the pair `cnn` a fourth: `keras.distillation`, the `Distiller` that comes
with Keras. Before they are timed, the loss of the first step by hand is
compared with that of keras_kd: they do the same.

- cnn: residual networks on 32 x 32 pixels, soft targets alone, and with one
  feature transfer as well. The teacher does 1.8 times the student's work, about
  as ResNet-34 does of ResNet-18's; with `--student 16 24 32` it is 5.5 times.
- bert: encoders of 4 and 2 layers on 64 tokens, a third of them padding: soft
  targets, the hidden states and the attention maps of two layers (TinyBERT).
- unet: U-Nets on 64 x 64 pixels, a fifth of them of weight 0: soft targets of
  each pixel, and a hint at a quarter of the resolution.
- generator: rounds of `DataFreeDistiller` as `dafl` and `dfad` set it, on
  LeNet-5, one of half its width and a generator of width 16. There is no plain
  student; latents are drawn inside of the round. `--memory` gives the peaks of
  processes, above what importing takes, in place of times.

Printed are the median milliseconds a step over all turns, the ratio to the loop
by hand (the median of the ratios within each turn), the same of the CPU time of
all cores (on which other programs have less effect), and the growth of the
process's memory as the first keras_kd step runs. A plot goes to
`step_time_<pair>_<backend>.png`. About five minutes on two CPU cores; `--smoke`
takes a few seconds and its figures mean nothing.

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

keras_kd / by hand of the other pairs, batches of 16, on the clock, and of CPU
time in brackets; 24 steps in each `fit` (of the U-Net on PyTorch 4):

                                        torch          JAX   TensorFlow
    bert                          1.10 (1.10)  1.05 (1.05)  1.05 (1.05)
    unet                          1.05 (1.04)  1.04 (1.04)  1.03 (1.04)

A round with a generator, `OMP_NUM_THREADS=1`, `--steps 30 --turns 3 --batch
128`, keras_kd / by hand in CPU time (the machine was busy, so that its clock
says little):

                                        torch          JAX   TensorFlow
    DAFL                                 1.02         1.01         1.02
    DFAD                                 1.04         0.99         0.93

The peak of memory (`--memory`), with what the first round compiles:

    DAFL, batches of 128                 1.00         1.16         1.27
    DFAD, batches of 128                 1.00         1.13         1.32
    DAFL, batches of 1,024                            1.10         0.94
    DFAD, batches of 1,024                            1.08         0.94

`fit` takes 30 to 50 MiB more on TensorFlow and about 150 on JAX (of 1 GiB, in
both mostly the compiler's), whatever the batch. A compiled round itself takes
on JAX, by XLA's account of batches of 128, 60.5 MiB (by hand 60.1) and 101.6
(101.2).

With 4 steps in each `fit`, what `fit` does around them shows: bert 1.10, 1.15
and 1.10, unet 1.05, 1.08 and 1.10.

On TensorFlow, `compile` switches XLA on by default, while `tf.function` does
not. On a CPU, XLA makes these convolutions slower by half, whoever calls
them; so all run without it, and with `--xla` all run with it.

On TensorFlow each `fit` reads a `tf.data.Dataset` with autotuning off: with it
on, as Keras has it for NumPy arrays, half of all runs of `fit` left one of two
cores idle, the plain student's included (42 ms a step in place of 22).
"""

import argparse
import functools
import resource
import subprocess
import sys
import time

import keras
import matplotlib
import numpy as np
from generator_round import GeneratorRound
from keras import layers
from keras import ops

import keras_kd as kd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BACKEND = keras.backend.backend()
TEMPERATURE = 4.0
HARD_WEIGHT, SOFT_WEIGHT = 0.1, 0.9
COMPILE = {"jit_compile": BACKEND == "jax"}


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mean(values, weight=None):
    """The mean of values, weighted."""
    if weight is None:
        return ops.mean(values)
    return ops.sum(weight * values) / ops.sum(weight)


def label_and_soft_loss(student, teacher, labels, weight=None):
    """What every pair has: the labels' loss and soft targets, of logits."""
    hard = keras.losses.sparse_categorical_crossentropy(
        labels, student, from_logits=True
    )
    p = ops.log_softmax(teacher / TEMPERATURE)
    q = ops.log_softmax(student / TEMPERATURE)
    soft = TEMPERATURE**2 * ops.sum(ops.exp(p) * (p - q), axis=-1)
    # Keras divides the labels' loss by the number of values.
    hard = ops.mean(hard if weight is None else weight * hard)
    return HARD_WEIGHT * hard + SOFT_WEIGHT * mean(soft, weight)


def soft_targets():
    return kd.Transfer(kd.losses.SoftTargets(TEMPERATURE), weight=SOFT_WEIGHT)


def features(*names, loss=kd.losses.FeatureMatching):
    """Transfers between layers of one name in teacher and student."""
    return [
        kd.Transfer(loss(), teacher=teacher, student=student)
        for teacher, student in names
    ]


# --- pairs --------------------------------------------------------------------


class CNN:
    """Residual blocks; the layer "features" has the same shape in both."""

    cases = {"soft targets": False, "soft targets + features": True}
    widths = {"teacher": (32, 64, 96), "student": (24, 48, 72)}

    def data(self, samples):
        random = np.random.default_rng(0)
        x = random.normal(size=(samples, 32, 32, 3)).astype("float32")
        return x, random.integers(0, 10, samples).astype("int32"), None

    def model(self, name, with_features=False):
        inputs = keras.Input((32, 32, 3))
        x = inputs
        for width in self.widths[name]:
            x = layers.Conv2D(width, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
            shortcut = layers.Activation("relu")(x)
            x = layers.Conv2D(width, 3, padding="same")(shortcut)
            x = layers.BatchNormalization()(x)
            x = layers.Activation("relu")(layers.Add()([x, shortcut]))
            x = layers.MaxPooling2D()(x)
        feature = layers.Conv2D(64, 1, name="features")(x)
        x = layers.Activation("relu")(feature)
        x = layers.GlobalAveragePooling2D()(x)
        logits = layers.Dense(10, name="head")(x)
        outputs = [logits, feature] if with_features else logits
        return keras.Model(inputs, outputs, name=name)

    def transfers(self, with_features):
        more = features(("features", "features")) if with_features else []
        return [soft_targets(), *more]

    def loss(self, student, teacher, x, y, weight):
        loss = label_and_soft_loss(student[0], teacher[0], y)
        for mine, its in zip(student[1:], teacher[1:]):
            loss += ops.mean((mine - its) ** 2)
        return loss


class BERT:
    """Encoders; the student's layers learn from every second one."""

    cases = {"soft targets, hidden states, attention maps": True}
    depths = {"teacher": 4, "student": 2}
    width, heads, length, words = 128, 4, 64, 1000

    def data(self, samples):
        random = np.random.default_rng(0)
        size = (samples, self.length)
        lengths = random.integers(self.length // 3, self.length, (samples, 1))
        x = {
            "token_ids": random.integers(1, self.words, size).astype("int32"),
            "padding_mask": np.arange(self.length) < lengths,
        }
        return x, random.integers(0, 2, samples).astype("int32"), None

    def model(self, name, with_features=False):
        inputs = {
            "token_ids": keras.Input((self.length,), dtype="int32"),
            "padding_mask": keras.Input((self.length,), dtype="bool"),
        }
        tokens, mask = inputs.values()
        positions = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
        x = layers.Embedding(self.words, self.width)(tokens)
        x += layers.Embedding(self.length, self.width)(positions)
        states, maps = [], []
        for block in range(1, self.depths[name] + 1):
            x, scores = self._block(x, mask, block, with_features)
            states, maps = [*states, x], [*maps, scores]
        logits = layers.Dense(2)(layers.Dense(self.width)(x[:, 0]))
        every = self.depths[name] // self.depths["student"]
        outputs = [
            logits,
            *states[every - 1 :: every],
            *maps[every - 1 :: every],
        ]
        outputs = outputs if with_features else logits
        return keras.Model(inputs, outputs, name=name)

    def _block(self, x, mask, block, with_scores):
        attention = layers.MultiHeadAttention(
            self.heads, self.width // self.heads, name=f"attention_{block}"
        )
        mask = mask[:, None, :]
        scores = None
        if with_scores:
            made, scores = attention(
                x, x, attention_mask=mask, return_attention_scores=True
            )
        else:
            made = attention(x, x, attention_mask=mask)
        x = layers.LayerNormalization()(x + made)
        made = layers.Dense(4 * self.width, activation="gelu")(x)
        made = layers.Dense(self.width)(made)
        state = layers.LayerNormalization(name=f"state_{block}")(x + made)
        return state, scores

    def transfers(self, with_features):
        every = self.depths["teacher"] // self.depths["student"]
        blocks = range(1, self.depths["student"] + 1)
        return [
            soft_targets(),
            *features(*((f"state_{every * n}", f"state_{n}") for n in blocks)),
            *features(
                *(
                    (f"attention_{every * n}:scores", f"attention_{n}:scores")
                    for n in blocks
                ),
                loss=kd.losses.AttentionMapMatching,
            ),
        ]

    def loss(self, student, teacher, x, y, weight):
        loss = label_and_soft_loss(student[0], teacher[0], y)
        valid = ops.cast(x["padding_mask"], "float32")
        depth = self.depths["student"]
        states = slice(1, 1 + depth)
        for mine, its in zip(student[states], teacher[states]):
            loss += mean(ops.mean((mine - its) ** 2, axis=-1), valid)
        maps = slice(1 + depth, None)
        both = valid[:, :, None] * valid[:, None, :]
        for mine, its in zip(student[maps], teacher[maps]):
            error = ops.mean((mine - its) ** 2, axis=1)
            error = ops.sum(both * error, axis=(1, 2))
            loss += ops.mean(error / ops.sum(both, axis=(1, 2)))
        return loss


class UNet:
    """Encoder, decoder and skip connections; the layer "hint" is alike."""

    cases = {"soft targets of pixels, a hint, pixel weights": True}
    widths = {"teacher": (16, 32, 64), "student": (8, 16, 32)}
    size = 64

    def data(self, samples):
        random = np.random.default_rng(0)
        pixels = (samples, self.size, self.size)
        x = random.normal(size=(*pixels, 3)).astype("float32")
        y = random.integers(0, 5, pixels).astype("int32")
        return x, y, (random.random(pixels) > 0.2).astype("float32")

    def model(self, name, with_features=False):
        inputs = keras.Input((self.size, self.size, 3))
        x, skips = inputs, []
        *widths, deepest = self.widths[name]
        for width in widths:
            x = self._block(x, width)
            skips.append(x)
            x = layers.MaxPooling2D()(x)
        x = self._block(x, deepest)
        hint = layers.Conv2D(32, 1, name="hint")(x)
        x = layers.Activation("relu")(hint)
        for width, skip in zip(widths[::-1], skips[::-1]):
            x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
            x = self._block(x, width)
        logits = layers.Conv2D(5, 1)(x)
        outputs = [logits, hint] if with_features else logits
        return keras.Model(inputs, outputs, name=name)

    def _block(self, x, width):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.Activation("relu")(x)
        return x

    def transfers(self, with_features):
        return [soft_targets(), *features(("hint", "hint"))]

    def loss(self, student, teacher, x, y, weight):
        loss = label_and_soft_loss(student[0], teacher[0], y, weight)
        quarter = self.size // 4
        blocks = ops.reshape(weight, (-1, quarter, 4, quarter, 4))
        smaller = ops.mean(blocks, axis=(2, 4))
        error = ops.mean((student[1] - teacher[1]) ** 2, axis=-1)
        return loss + mean(error, smaller)


PAIRS = {
    "cnn": CNN,
    "bert": BERT,
    "unet": UNet,
    "generator": functools.partial(GeneratorRound, COMPILE),
}


def make_models(pair, with_features=False):
    keras.utils.set_random_seed(0)
    return [pair.model(name, with_features) for name in ("teacher", "student")]


def fit_on(model, data, batch):
    """A function that fits the model on all batches, in order."""
    x, y, weight = data
    if BACKEND == "tensorflow":
        import tensorflow as tf

        given = (x, y) if weight is None else data
        batches = tf.data.Dataset.from_tensor_slices(given).batch(batch)
        options = tf.data.Options()
        options.autotune.enabled = False
        batches = batches.prefetch(2).with_options(options)
        return lambda: model.fit(batches, shuffle=False, verbose=0)
    return lambda: model.fit(
        x, y, batch, sample_weight=weight, shuffle=False, verbose=0
    )


# --- the ways; each returns a function that trains on all batches -----------


def plain_fit(pair, data, batch, with_features):
    _, student = make_models(pair)
    student.compile(keras.optimizers.Adam(), cross_entropy(), **COMPILE)
    return fit_on(student, data, batch)


def keras_kd_fit(pair, data, batch, with_features):
    teacher, student = make_models(pair)
    distiller = kd.Distiller(
        teacher,
        student,
        pair.transfers(with_features),
        hard_weight=HARD_WEIGHT,
    )
    distiller.compile(keras.optimizers.Adam(), cross_entropy(), **COMPILE)
    return fit_on(distiller, data, batch)


def keras_distillation_fit(pair, data, batch, with_features):
    from keras import distillation

    teacher, student = make_models(pair)
    losses = [
        distillation.LogitsDistillation(
            temperature=TEMPERATURE, loss=keras.losses.KLDivergence()
        )
    ]
    weights = [SOFT_WEIGHT]
    if with_features:
        losses.append(
            distillation.FeatureDistillation(
                loss="mse",
                teacher_layer_name="features",
                student_layer_name="features",
            )
        )
        weights.append(1.0)
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
    return fit_on(distiller, data, batch)


def by_hand(pair, data, batch, with_features):
    # One pass gives logits and features, as one writes it by hand.
    teacher, student = make_models(pair, with_features)
    step = {"jax": jax_step, "tensorflow": tensorflow_step, "torch": torch_step}

    def loss(outputs, teacher_outputs, *batch):
        # A single output is no list.
        sides = map(keras.tree.flatten, (outputs, teacher_outputs))
        return pair.loss(*sides, *batch)

    take_step = step[BACKEND](teacher, student, loss)
    samples = len(data[1])

    def train():
        """Trains on all batches; returns the loss of the first."""
        losses = []
        for start in range(0, samples, batch):
            part = keras.tree.map_structure(
                lambda array: array[start : start + batch],  # noqa: B023
                [each for each in data if each is not None],
            )
            losses.append(take_step(*part))
        float(ops.stop_gradient(losses[-1]))  # waits for the last step
        return float(ops.stop_gradient(losses[0]))

    return train


def jax_step(teacher, student, loss):
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

    def loss_of(trainable, non_trainable, x, y, weight, teacher_outputs):
        outputs, non_trainable = student.stateless_call(
            trainable, non_trainable, x, training=True
        )
        return loss(outputs, teacher_outputs, x, y, weight), non_trainable

    def step(state, teacher_values, x, y, weight):
        trainable, non_trainable, slots = state
        teacher_outputs, _ = teacher.stateless_call(
            *teacher_values, x, training=False
        )
        (value, non_trainable), gradients = jax.value_and_grad(
            loss_of, has_aux=True
        )(trainable, non_trainable, x, y, weight, teacher_outputs)
        trainable, slots = optimizer.stateless_apply(
            slots, gradients, trainable
        )
        return value, [trainable, non_trainable, slots]

    compiled = jax.jit(step, donate_argnums=0)

    def take_step(x, y, weight=None):
        nonlocal state
        value, state = compiled(state, teacher_values, x, y, weight)
        return value

    return take_step


def tensorflow_step(teacher, student, loss):
    import tensorflow as tf

    optimizer = keras.optimizers.Adam()
    optimizer.build(student.trainable_variables)

    @tf.function(jit_compile=COMPILE["jit_compile"])
    def take_step(x, y, weight=None):
        teacher_outputs = teacher(x, training=False)
        with tf.GradientTape() as tape:
            outputs = student(x, training=True)
            value = loss(outputs, teacher_outputs, x, y, weight)
        gradients = tape.gradient(value, student.trainable_variables)
        optimizer.apply(gradients, student.trainable_variables)
        return value

    return lambda *batch: take_step(*tf.nest.map_structure(tf.constant, batch))


def torch_step(teacher, student, loss):
    import torch

    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3, eps=1e-7)

    def take_step(*batch):
        batch = keras.tree.map_structure(torch.as_tensor, batch)
        x, y, weight = (*batch, None)[:3]
        with torch.no_grad():
            teacher_outputs = teacher(x, training=False)
        outputs = student(x, training=True)
        value = loss(outputs, teacher_outputs, x, y, weight)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    return take_step


# --- measuring ----------------------------------------------------------------


def ways_of(pair):
    if isinstance(pair, GeneratorRound):
        return pair.ways
    ways = {"plain": plain_fit, "by hand": by_hand, "keras_kd": keras_kd_fit}
    if isinstance(pair, CNN):
        ways["keras.distillation"] = keras_distillation_fit
    return ways


def check_first_loss(pair, batch, with_features):
    """Raises unless keras_kd's first loss is that of the loop by hand."""
    data = pair.data(batch)
    expected = ways_of(pair)["by hand"](pair, data, batch, with_features)()
    make = ways_of(pair)["keras_kd"]
    history = make(pair, data, batch, with_features)().history
    found = [history[name][0] for name in getattr(pair, "compared", ["loss"])]
    if not np.allclose(found, expected, rtol=1e-3, atol=0.0):
        raise RuntimeError(f"By hand {expected}, keras_kd {found}.")


def peak_memory():
    """Peak of the process's memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_of(way, case, pair, batch):
    """By how many MiB two steps raise the peak of this process's memory."""
    before = peak_memory()
    ways_of(pair)[way](pair, pair.data(2 * batch), batch, pair.cases[case])()
    return peak_memory() - before


def report_memory(pair):
    """The peaks of all ways, each in a process of its own."""
    for case in pair.cases:
        peaks = {}
        for way in ways_of(pair):
            command = [sys.executable, *sys.argv, "--peak", way, case]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            peaks[way] = float(done.stdout.splitlines()[-1])
        print(f"\n{case} ({BACKEND})")
        for way, peak in peaks.items():
            ratio = peak / peaks["by hand"]
            print(f"{way:20} {peak:8.0f} MiB {ratio:11.3f}")


def measure(pair, with_features, steps, turns, batch):
    """Milliseconds a step, `{way: [(on the clock, of all cores) a turn]}`."""
    data, ways, trainers = pair.data(steps * batch), ways_of(pair), {}
    for name, make in ways.items():
        before = peak_memory()
        trainers[name] = make(pair, data, batch, with_features)
        trainers[name]()  # compiles
        if name == "keras_kd":
            print(
                f"  memory at the first keras_kd steps: "
                f"+{peak_memory() - before:.0f} MiB"
            )
    times = {name: [] for name in ways}
    for turn in range(turns):
        # Another first one each turn: drift hits none more than another.
        first = turn % len(ways)
        for name in [*ways][first:] + [*ways][:first]:
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
    if "keras.distillation" in times:
        gain = np.array(times["keras.distillation"]) / np.array(
            times["keras_kd"]
        )
        gain, cpu_gain = np.median(gain, axis=0)
        print(f"keras.distillation / keras_kd: {gain:.2f} (CPU {cpu_gain:.2f})")
    return rows


def plot(results, path):
    figure, axes = plt.subplots(
        1, len(results), figsize=(9, 3.2), sharey=True, squeeze=False
    )
    for axis, (case, rows) in zip(axes[0], results.items()):
        axis.bar(list(rows), [ratio for _, ratio in rows.values()])
        axis.axhline(1.0, color="black", linewidth=0.8)
        axis.set_title(f"{case} ({BACKEND})", fontsize=10)
        axis.tick_params(axis="x", labelsize=8)
    axes[0][0].set_ylabel("time, by hand = 1")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"\nplot: {path}")


def make_small(pair):
    """The models of the short form."""
    if isinstance(pair, GeneratorRound):
        pair.generator_width = 2
        pair.widths = dict.fromkeys(pair.widths, (2, 2, 4, 4))
    elif isinstance(pair, BERT):
        pair.width, pair.heads, pair.length, pair.words = 8, 2, 6, 20
    else:
        pair.widths = {name: (4, 4)[: len(pair.widths)] for name in pair.widths}
    if isinstance(pair, UNet):
        pair.size, pair.widths = 16, dict.fromkeys(pair.widths, (2, 2, 4))


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times a distillation step.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--pair", choices=list(PAIRS), default="cnn")
    parser.add_argument(
        "--generator", action="store_const", dest="pair", const="generator"
    )
    parser.add_argument("--memory", action="store_true", help="of processes")
    parser.add_argument(
        "--peak", nargs=2, metavar=("WAY", "CASE"), help="of this process"
    )
    parser.add_argument("--xla", action="store_true", help="on TensorFlow")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--student", type=int, nargs=3, metavar="WIDTH")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    pair = PAIRS[arguments.pair]()
    if arguments.student:
        pair.widths = {**pair.widths, "student": arguments.student}
    if arguments.smoke:
        arguments.steps, arguments.turns, arguments.batch = 2, 1, 4
        make_small(pair)
    if arguments.xla and BACKEND == "tensorflow":
        COMPILE["jit_compile"] = True
    results = {}
    cases = list(pair.cases.items())
    # The last case has all of what the others have.
    if arguments.peak:
        print(peak_of(*arguments.peak, pair, arguments.batch))
        return
    if arguments.memory:
        report_memory(pair)
        return
    for case, with_features in cases[-1:] if arguments.smoke else cases:
        check_first_loss(pair, arguments.batch, with_features)
        times = measure(
            pair,
            with_features,
            arguments.steps,
            arguments.turns,
            arguments.batch,
        )
        results[case] = report(case, times)
    plot(results, f"step_time_{arguments.pair}_{BACKEND}.png")


if __name__ == "__main__":
    main()
