"""What `on_a_gpu.py` measures on one backend; it starts this file.

Each part is a function of the seconds that it may take, and gives rows of the
table. A row goes to a file as soon as it is there: what the parent ends in the
midst of a part keeps what there was.
"""

import argparse
import itertools
import json
import pathlib
import tempfile
import time

import keras
import large_vocabulary
import numpy as np
import step_time
from keras import layers
from keras import ops
from teacher_cache import TOP_K
from teacher_cache import Batches
from teacher_cache import fed

import keras_kd as kd

BACKEND = keras.backend.backend()
STEP = {
    "jax": step_time.jax_step,
    "tensorflow": step_time.tensorflow_step,
    "torch": step_time.torch_step,
}


def seeded_projection(units, name=None):
    """The same first weights in keras_kd's adapter and in the loop's layer."""
    initializer = keras.initializers.GlorotUniform(seed=0)
    return layers.Dense(units, kernel_initializer=initializer, name=name)


# --- pairs --------------------------------------------------------------------


class Images(step_time.CNN):
    """ResNet-50 teaches MobileNetV3-Large."""

    title = "ResNet-50 -> MobileNetV3"
    size, batch, classes = 224, 128, 1000
    policy = "mixed_bfloat16"
    taps = {"teacher": "conv4_block6_out", "student": "expanded_conv_11_add"}
    width = 1024  # Of the teacher's tap; both have positions of 1/16.

    def data(self, samples):
        random = np.random.default_rng(0)
        x = random.normal(size=(samples, self.size, self.size, 3))
        y = random.integers(self.classes, size=samples)
        return x.astype("float32"), y.astype("int32")

    def model(self, name, with_features=False):
        shared = {
            "input_shape": (self.size, self.size, 3),
            "weights": None,
            "classes": self.classes,
            "classifier_activation": None,
        }
        if name == "teacher":
            model = keras.applications.ResNet50(**shared)
        else:
            # Without what is random: the loop's loss is to be the same.
            model = keras.applications.MobileNetV3Large(
                dropout_rate=0.0, include_preprocessing=False, **shared
            )
        return self.with_taps(name, model) if with_features else model

    def with_taps(self, name, model):
        """The model with the feature as another output, for the loop."""
        feature = model.get_layer(self.taps[name]).output
        if name == "student":
            feature = seeded_projection(self.width)(feature)
        return keras.Model(model.inputs, [model.outputs[0], feature])

    def transfers(self, with_features):
        feature = kd.Transfer(
            kd.losses.FeatureMatching(),
            **self.taps,
            adapter=seeded_projection(self.width, "projection"),
        )
        return [step_time.soft_targets(), *([feature] if with_features else [])]

    def loss(self, student, teacher, x, y, weight):
        sides = (student, teacher)
        sides = [[ops.cast(e, "float32") for e in side] for side in sides]
        return super().loss(*sides, x, y, weight)


class Tokens(Images):
    """Decoders of plain Keras layers, 12 x 1024 and 6 x 512 units."""

    title = "causal LM"
    batch, length, classes, width = 8, 1024, 32_000, 1024
    sizes = {"teacher": (12, 1024), "student": (6, 512)}
    taps = {"teacher": "state", "student": "state"}

    def data(self, samples):
        tokens = np.random.default_rng(0).integers(
            self.classes, size=(samples, self.length + 1)
        )
        tokens = tokens.astype("int32")
        return tokens[:, :-1], tokens[:, 1:]

    def model(self, name, with_features=False):
        depth, units = self.sizes[name]
        tokens = keras.Input((self.length,), dtype="int32")
        positions = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
        x = layers.Embedding(self.classes, units)(tokens)
        x += layers.Embedding(self.length, units)(positions)
        for _ in range(depth):
            normal = layers.LayerNormalization()(x)
            heads = max(units // 64, 1)
            attention = layers.MultiHeadAttention(heads, units // heads)
            x += attention(normal, normal, use_causal_mask=True)
            made = layers.LayerNormalization()(x)
            made = layers.Dense(4 * units, activation="gelu")(made)
            x += layers.Dense(units)(made)
        x = layers.LayerNormalization(name="state")(x)
        model = keras.Model(tokens, layers.Dense(self.classes)(x), name=name)
        return self.with_taps(name, model) if with_features else model


class FewTokens(Tokens):
    """The short form's."""

    title = "small causal LM"
    batch, length, classes, width = 2, 6, 20, 8
    sizes = {"teacher": (2, 8), "student": (1, 4)}


class FewImages(step_time.CNN):
    """The short form's: the other takes a CPU half a minute."""

    title, batch, policy = "small CNN", 4, "float32"
    widths = {"teacher": (4,), "student": (4,)}


# --- trainers: functions of a number of steps, that return the loss -----------


def on_device(batch):
    """A batch that stays on the device, so that no step waits for the host."""
    return tuple(ops.convert_to_tensor(each) for each in batch)


def repeated(batch, steps):
    """One batch, again and again, as `fit` of each backend takes it."""
    if BACKEND == "torch":
        import torch

        return torch.utils.data.DataLoader([batch] * steps, batch_size=None)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors(batch).repeat(steps)
    return (each for each in itertools.repeat(batch, steps))


def fitted(model, batch):
    def train(steps):
        data = repeated(batch, steps)
        history = model.fit(data, steps_per_epoch=steps, verbose=0)
        return history.history["loss"][0]

    return train


def looped(pair, batch, with_features):
    def loss(outputs, teacher_outputs, *batch):
        sides = map(keras.tree.flatten, (outputs, teacher_outputs))
        return pair.loss(*sides, *batch)

    models = step_time.make_models(pair, with_features)
    take_step = STEP[BACKEND](*models, loss)

    def train(steps):
        for _ in range(steps):
            value = take_step(*batch)
        return float(ops.stop_gradient(value))  # Waits for the last step.

    return train


def distilled(pair, with_features, teacher=None):
    made, student = step_time.make_models(pair)
    distiller = kd.Distiller(
        teacher or made,
        student,
        pair.transfers(with_features),
        hard_weight=step_time.HARD_WEIGHT,
    )
    return compiled(distiller)


def compiled(model, loss=None, optimizer=None):
    model.compile(
        optimizer or keras.optimizers.Adam(), loss, **step_time.COMPILE
    )
    return model


# --- measuring ----------------------------------------------------------------


def peak_bytes(begin_anew=False):
    """The device's peak of memory so far; 0 where it is unknown."""
    if BACKEND == "jax":  # It can't begin anew.
        import jax

        stats = jax.local_devices()[0].memory_stats() or {}
        return stats.get("peak_bytes_in_use", 0)
    if BACKEND == "torch":
        import torch

        if not torch.cuda.is_available():
            return 0
        if begin_anew:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return 0
    if begin_anew:
        tf.config.experimental.reset_memory_stats("GPU:0")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def gibibytes(before):
    """The peak since then; None where that of JAX is an earlier one's."""
    now = peak_bytes()
    known = now > before if BACKEND == "jax" else now
    return round(now / 2**30, 2) if known else None


def first_steps(makers):
    """Makes and compiles trainers: these, and what was seen of each."""
    trainers, seen = {}, {}
    for name, make in makers.items():
        before, start = peak_bytes(begin_anew=True), time.perf_counter()
        trainers[name] = make()
        loss = trainers[name](1)
        trainers[name](1)  # What is made in the second step only.
        seen[name] = {
            "GiB": gibibytes(before),
            "first loss": round(float(loss), 4),
            "set-up s": round(time.perf_counter() - start, 1),
        }
    return trainers, seen


def in_turns(trainers, until, steps=None):
    """Milliseconds a step of each, a turn about until the time is up."""
    times = {name: [] for name in trainers}
    while True:
        for name, train in trainers.items():
            count = steps or 3
            start = time.perf_counter()
            train(count)
            times[name].append(1000 * (time.perf_counter() - start) / count)
        if steps is None:  # A turn of a second, for the slowest.
            slowest = max(each[0] for each in times.values())
            steps = int(np.clip(1000 / slowest, 3, 100))
            if time.time() < until:
                times = {name: [] for name in trainers}
                continue
        if time.time() >= until:
            return times


def compared(title, case, makers, until, base):
    """A row for each way, with its ratio to the one called `base`."""
    trainers, seen = first_steps(makers)
    times = in_turns(trainers, until)
    rows = []
    for name, values in times.items():
        ratio = np.median(np.divide(values, times[base]))
        rows.append(
            {
                "part": title,
                "case": case,
                "way": name,
                "ms": round(float(np.median(values)), 3),
                "ratio": round(float(ratio), 3),
                "turns": len(values),
                **seen[name],
            }
        )
    return rows


# --- parts --------------------------------------------------------------------


def step_ratio(pair, case, until):
    with_features = pair.cases[case]
    keras.config.set_dtype_policy(pair.policy)
    batch = on_device(pair.data(pair.batch)[:2])
    cross_entropy = step_time.cross_entropy

    def keras_kd():
        distiller = distilled(pair, with_features)
        return fitted(compiled(distiller, cross_entropy()), batch)

    makers = {
        "by hand": lambda: looped(pair, batch, with_features),
        "keras_kd": keras_kd,
    }
    return compared(pair.title, case, makers, until, base="by hand")


def chunked_head(arguments, until):
    """`large_vocabulary.py` on the device, in float32 as there."""
    keras.config.set_dtype_policy("float32")
    tokens = np.random.default_rng(0).integers(
        arguments.vocabulary, size=(8, arguments.length + 1)
    )
    tokens = tokens.astype("int32")
    batch = on_device((tokens[:, :-1], tokens[:, 1:]))

    def make(form):
        model = large_vocabulary.make_model(form, arguments)
        loss = None if form == "by hand" else large_vocabulary.hard_loss()
        return fitted(compiled(model, loss, keras.optimizers.SGD(0.1)), batch)

    # The smallest first: JAX's peak is that of the process.
    makers = {
        form: lambda form=form: make(form)
        for form in ("chunks", "by hand", "dense")
    }
    case = f"{arguments.vocabulary} classes, 8 x {arguments.length} tokens"
    return compared("chunked head", case, makers, until, base="by hand")


def cached_teacher(pair, batches, until):
    """Predictions are written once; then a step reads them from the disk."""
    keras.config.set_dtype_policy(pair.policy)
    x, y, *_ = pair.data(batches * pair.batch)
    teacher, student = step_time.make_models(pair)
    classes = teacher.output.shape[-1]
    encoding = TOP_K if classes > TOP_K.k else kd.cache.TopK(3)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        kd.cache.write(
            teacher,
            x,
            pathlib.Path(folder) / "cache",
            outputs=encoding,
            batch_size=pair.batch,
            verbose=0,
        )
        rate = len(x) / (time.perf_counter() - start)
        predictions = kd.cache.open(pathlib.Path(folder) / "cache")
        joined = predictions.join(x, y, batch_size=pair.batch, seed=0)
        plain = Batches((x, y), pair.batch)

        def make(model, data):
            model = compiled(model, step_time.cross_entropy())
            return fitted_on_host(model, fed(data), batches)

        makers = {
            "student alone": lambda: make(student, plain),
            "live teacher": lambda: make(distilled(pair, False), plain),
            "cached": lambda: make(distilled(pair, False, predictions), joined),
        }
        rows = compared(
            "cached teacher", pair.title, makers, until, base="student alone"
        )
    return [{**row, "written/s": round(rate)} for row in rows]


def fitted_on_host(model, data, batches):
    """`fit` on batches that come from the host; never more than there are."""

    def train(steps):
        losses = []
        while steps > 0:
            now = min(steps, batches)
            history = model.fit(
                data, steps_per_epoch=now, shuffle=False, verbose=0
            )
            losses.append(history.history["loss"][0])
            steps -= now
        return losses[0]

    return train


def parts(smoke):
    """What is measured, in order: name, and a function of the time of end."""
    pairs = [FewImages(), FewTokens()] if smoke else [Images(), Tokens()]
    found = {}
    arguments = argparse.Namespace(
        vocabulary=100 if smoke else 128_000,
        length=12 if smoke else 512,
        chunk_size=5 if smoke else 64,
    )
    found["chunked head"] = lambda until: chunked_head(arguments, until)
    for pair in pairs:
        for case in [*pair.cases][-1:] if smoke else pair.cases:
            found[f"{pair.title}, {case}"] = (
                lambda until, pair=pair, case=case: step_ratio(
                    pair, case, until
                )
            )
    found["cached teacher"] = lambda until: cached_teacher(
        pairs[0], 2 if smoke else 16, until
    )
    return found


def run_part(name, part, until):
    """Its rows; where it fails, a row that says so: the others go on."""
    try:
        return part(until)
    except Exception as error:
        line = str(error).strip().partition("\n")[0][:200]
        return [{"part": name, "failed": f"{type(error).__name__}: {line}"}]


def device_name():
    if BACKEND == "torch":
        import torch

        return (
            torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        )
    if BACKEND == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    if not found:
        return "CPU"
    details = tf.config.experimental.get_device_details(found[0])
    return details.get("device_name", "GPU")


def main():
    parser = argparse.ArgumentParser(description="Parts of `on_a_gpu.py`.")
    parser.add_argument("rows", help="file that rows are added to")
    parser.add_argument("until", type=float, help="seconds since 1970")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()

    def write(*rows):
        with open(arguments.rows, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    planned = parts(arguments.smoke)
    write({"device": device_name(), "planned": list(planned)})
    longest = 0  # To make and compile what a part compares.
    for number, (name, part) in enumerate(planned.items()):
        start = time.time()
        left = arguments.until - start
        if left < longest:
            write({"part": name, "left out": f"{left:.0f} s were left"})
            continue
        until = start + left / (len(planned) - number)
        rows = run_part(name, part, start if arguments.smoke else until)
        write(*rows, {"done": name})
        longest = max(longest, sum(row.get("set-up s", 0) for row in rows))


if __name__ == "__main__":
    main()
