"""Language models of large vocabularies in `fit`: memory and time of a step.

    KERAS_BACKEND=torch python examples/benchmarks/large_vocabulary.py

Trains a student of 128 units with a teacher of 256 on 8 x 512 tokens: the
cross-entropy of the labels, and soft targets. In three forms:

    by hand   a model with a `compute_loss` of its own, and all logits
    dense     `Distiller` with all logits
    chunks    `Distiller(chunk_size=...)`

The models are an embedding, a dense layer and the projection to the
vocabulary (32,000 classes; `--vocabulary 128000`), so that nearly all memory
and time is that of the logits. Each form runs in a process of its own, since
the peak of memory is that of a process: first on a few tokens, to import what
there is, then steps are measured. Printed are the peak above what the process
had before (on JAX and TensorFlow with what the compiler takes), and the
fastest step, on the clock and in processor time. The first loss has to be the
same in all forms. Needs Linux; a minute or two for 32,000 classes; `--smoke`
takes seconds, and its figures mean nothing.

On two CPU cores, 32,000 classes, chunks of 64 positions:

                          by hand     dense    chunks  chunks / dense
    PyTorch     ms           4876      6434      5994            0.93
                peak MiB     3508      5013       674            0.13
    JAX         ms           3632      6014      2899            0.48
                peak MiB     3454      6302       724            0.11
    TensorFlow  ms           1568      2236      1851            0.83
                peak MiB     3209      4934       659            0.13

When this was measured, the first epoch's checks (are these probabilities? does
the teacher guess?) read all logits in the dense form. They look at a few
positions now. Processor time of a step of 4 x 128 tokens, by hand 1:

                                PyTorch   JAX   TensorFlow
    first epoch, before            1.31  1.77         1.32
    first epoch, now               1.22  1.16         1.21
    without these checks           1.20  1.10         1.14

128,000 classes, on a busy machine, so in processor time; each with
`--vocabulary 128000 --steps 2 --length LENGTH`, those of one form alone with
`--form FORM`, PyTorch with `--steps 1` but by hand:

                                   by hand     dense    chunks
    TensorFlow  8 x 128   ms          3416      4037      3963
                          MiB         3638      4226      2553
                8 x 512   ms                             14751
                          MiB                             2838
    JAX         8 x 128   ms          8411      9496      7845
                          MiB         3246      5023      2526
                8 x 512   ms                             27241
                          MiB                             2696
    PyTorch     8 x  64   ms          5533      6950      6249
                          MiB         1773      2490      2084
                8 x 128   ms                   11627     10418
                          MiB                   5093      1863
                8 x 512   ms                             42725
                          MiB                             2162

The memory of the chunks is that of the models and their gradients, at any
length; that of the dense form doubles with it, to about 20 GB at 8 x 512.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

FORMS = ("by hand", "dense", "chunks")


# --- one form, in a process of its own ----------------------------------------


def language_model(units, vocabulary, seed):
    import keras

    keras.utils.set_random_seed(seed)
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(vocabulary, units)(tokens)
    x = keras.layers.Dense(units, activation="tanh")(x)
    # Logits of standard deviation 1 or so.
    initializer = keras.initializers.RandomNormal(stddev=20.0 * units**-0.5)
    logits = keras.layers.Dense(vocabulary, kernel_initializer=initializer)(x)
    return keras.Model(tokens, logits)


def hard_loss():
    import keras

    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )


def by_hand(teacher, student):
    """What one writes without a library: a model that sums both losses."""
    import keras
    from keras import ops

    class ByHand(keras.Model):
        def __init__(self):
            super().__init__()
            self.student = student
            self.teacher = teacher
            teacher.trainable = False

        def call(self, tokens, training=None):
            return self.student(tokens), self.teacher(tokens)

        def compute_loss(
            self, x=None, y=None, y_pred=None, sample_weight=None, training=True
        ):
            student_logits, teacher_logits = y_pred
            log_q = ops.log_softmax(student_logits)
            log_p = ops.log_softmax(ops.stop_gradient(teacher_logits))
            divergence = ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)
            hard = hard_loss()(y, student_logits)
            return 0.5 * hard + 0.5 * ops.mean(divergence)

    return ByHand()


def make_model(form, arguments):
    import keras_kd as kd

    teacher = language_model(256, arguments.vocabulary, seed=1)
    student = language_model(128, arguments.vocabulary, seed=2)
    if form == "by hand":
        return by_hand(teacher, student)
    size = arguments.chunk_size if form == "chunks" else None
    return kd.schemes.causal_lm(teacher, student, chunk_size=size)


def memory(field):
    """A figure of this process's memory, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}.")


def make_clock():
    import keras

    class Clock(keras.callbacks.Callback):
        """The time of each step."""

        def on_train_begin(self, logs=None):
            self.clock, self.processor = [], []

        def on_train_batch_begin(self, batch, logs=None):
            self.start = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, batch, logs=None):
            self.clock.append(time.perf_counter() - self.start[0])
            self.processor.append(time.process_time() - self.start[1])

    return Clock()


def measure(form, arguments):
    import keras
    import numpy as np

    model = make_model(form, arguments)
    # A loss that is not there is computed by the model itself.
    loss = None if form == "by hand" else hard_loss()
    model.compile(keras.optimizers.SGD(0.1), loss)
    steps, batch, length = arguments.steps + 1, 8, arguments.length
    tokens = np.random.default_rng(0).integers(
        arguments.vocabulary, size=(steps * batch, length + 1)
    )
    tokens = tokens.astype("int32")
    model.evaluate(tokens[:batch, :8], tokens[:batch, 1:9], batch, verbose=0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before, clock = memory("VmRSS"), make_clock()
    history = model.fit(
        tokens[:, :-1],
        tokens[:, 1:],
        batch,
        shuffle=False,
        callbacks=[clock],
        verbose=0,
    )
    return {
        "ms": 1000 * min(clock.clock[1:]),
        "processor ms": 1000 * min(clock.processor[1:]),
        "peak MiB": memory("VmHWM") - before,
        "loss": history.history["loss"][0],
    }


# --- all forms, one after the other -------------------------------------------


def in_a_process(form):
    command = [sys.executable, __file__, *sys.argv[1:], "--form", form]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description="Measures large vocabularies.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--form", choices=FORMS, help="this one, here")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--chunk-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.length, arguments.steps = 12, 1
        arguments.vocabulary, arguments.chunk_size = 100, 5
    if arguments.form:
        print(json.dumps(measure(arguments.form, arguments)))
        return
    results = {form: in_a_process(form) for form in FORMS}
    print(f"{os.environ.get('KERAS_BACKEND', 'default backend')}")
    print(f"{'':14}" + "".join(f"{form:>10}" for form in FORMS), end="")
    print(f"{'chunks / dense':>16}")
    for name in ("ms", "processor ms", "peak MiB"):
        figures = [results[form][name] for form in FORMS]
        ratio = figures[2] / max(figures[1], 1e-9)
        print(f"{name:14}" + "".join(f"{f:10.0f}" for f in figures), end="")
        print(f"{ratio:16.2f}")
    losses = [results[form]["loss"] for form in FORMS]
    print(f"losses {losses}")
    if max(losses) - min(losses) > 1e-3:
        sys.exit("The losses of the forms differ.")


if __name__ == "__main__":
    main()
