"""Language models of Python code: a teacher of eight layers, students of two.

    KERAS_BACKEND=jax python examples/code_language_model.py

A byte is a token, and the texts are on each machine: the source of Python's
standard library, without tests. A tenth of its modules is held out. Teacher and
students are KerasHub's Llama of 64 units, so that a student can begin as two of
the teacher's layers (`kd.students.shrink`): 459,968 weights and 139,712, of the
layers a quarter. A step is 8 windows of 128 bytes. The teacher has 800 steps,
the students 200 of other windows; all but "alone" learn from labels and
teacher, half each. No weight and no rate was tuned.

Bits per byte on the modules that were held out, two seeds of the students, mean
and standard deviation. The teacher has 2.906 on JAX and 3.00 on TensorFlow and
PyTorch, which draw other initial weights. All at 200 steps:

                                           JAX     TensorFlow        PyTorch
alone                            3.516 ± 0.028  3.362 ± 0.065  3.542 ± 0.032
soft targets                     3.454 ± 0.005  3.231 ± 0.090  3.463 ± 0.063
reverse KL                       3.630 ± 0.015  3.474 ± 0.035  3.616 ± 0.023
soft targets, hidden states      3.347 ± 0.013  3.325 ± 0.027  3.326 ± 0.018
teacher's layers, alone          3.006 ± 0.002  3.073 ± 0.008  3.125 ± 0.016
teacher's layers, soft targets   2.990 ± 0.006  3.049 ± 0.001  3.099 ± 0.007
soft targets, half on own texts  3.553 ± 0.109  3.462 ± 0.108  3.571 ± 0.121
soft targets, cached top 16      3.517 ± 0.001  3.262 ± 0.063  3.509 ± 0.058

At equal time: as many steps as fit into the processor time of "alone", writing
texts included, writing the cache left out. Bits per byte (with spreads of up to
0.12, of reverse KL on PyTorch 0.27), steps, and milliseconds a step:

                                         JAX      TensorFlow         PyTorch
alone                            3.516 200 33    3.362 200  35   3.542 200  38
soft targets                     3.832  90 70    3.684  90  79   3.939  80  99
reverse KL                       3.984  80 80    3.881  90  80   4.110  80 100
soft targets, hidden states      3.837  90 73    3.805  90  80   4.064  70 105
teacher's layers, alone          3.006 200 36    3.073 200  36   3.125 200  43
teacher's layers, soft targets   3.098  80 80    3.240  60 108   3.258  70 105
soft targets, half on own texts  4.106  60 114   4.440  40 181   6.345  10 579
soft targets, cached top 16      3.775 120 55    3.330 180  38   3.622 170  44

On all three the start is what counts: two of the teacher's layers are 0.16 to
0.34 bits ahead of all else, and teach the student more than the teacher does
afterwards. Soft targets improve a step, by 0.06 to 0.13, but a teacher that
runs in each step costs more than it gives: in the same time, twice as many
steps on labels are better. Reverse KL is worse than labels alone, and the
student's own texts no better: one that has read 200 kB writes little worth
correcting. Hidden states improve a step further on JAX and PyTorch, not on
TensorFlow. The 16 likeliest of 257 bytes lose what soft targets gain on JAX,
more than half of it on PyTorch, and a quarter of it on TensorFlow, where they
are as good as labels alone at equal time. These are few steps, on data that
never comes twice: no forecast for long runs.

Processor time: nine minutes on JAX with its compilation cache, twelve on the
others.
"""

import argparse
import sysconfig
import tempfile
import time
import zlib
from pathlib import Path

import keras
import keras_hub
import numpy as np
from keras import ops
from matplotlib.figure import Figure

import keras_kd as kd

END, VOCABULARY = 256, 257  # A byte is a token; one more ends a module.
CONTEXT, BATCH_SIZE, PROMPT = 128, 8, 16
EPOCHS, RATE = 10, 3e-3
TEACHER_LAYERS, STUDENT_LAYERS, UNITS = 8, 2, 64
ALONE, SOFT, REVERSE, STATES, BLOCKS_ALONE, BLOCKS, OWN_TEXTS, TOP_K = ROWS = [
    "alone",
    "soft targets",
    "reverse KL",
    "soft targets, hidden states",
    "teacher's layers, alone",
    "teacher's layers, soft targets",
    "soft targets, half on own texts",
    "soft targets, cached top 16",
]


# --- the data -----------------------------------------------------------------


def modules():
    """Paths of Python's own modules and packages, without tests."""
    root = Path(sysconfig.get_paths()["stdlib"])
    leave_out = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if not leave_out & set(path.relative_to(root).parts)
    ]


def is_held_out(path):
    """A tenth of the modules; those of a package stay together."""
    root = Path(sysconfig.get_paths()["stdlib"])
    name = path.relative_to(root).parts[0].removesuffix(".py")
    return zlib.crc32(name.encode()) % 10 == 0


def tokens_of(paths):
    texts = [[*path.read_bytes(), END] for path in paths]
    return np.concatenate(texts).astype("int32")


def windows(tokens, count, context, seed):
    """`count` pieces of `context + 1` tokens."""
    generator = np.random.default_rng(seed)
    starts = generator.integers(len(tokens) - context, size=count)
    return tokens[starts[:, None] + np.arange(context + 1)]


def inputs_of(rows):
    tokens = rows[:, :-1]
    return {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}


class Batches(keras.utils.PyDataset):
    """Each window once, in an order of the seed."""

    def __init__(self, rows, seed):
        super().__init__()
        self.rows = np.random.default_rng(seed).permutation(rows)

    def __len__(self):
        return len(self.rows) // BATCH_SIZE

    def __getitem__(self, batch):
        rows = self.rows[batch * BATCH_SIZE :][:BATCH_SIZE]
        return inputs_of(rows), rows[:, 1:]


# --- the models ---------------------------------------------------------------


def build(layers):
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=layers,
        num_query_heads=4,
        num_key_value_heads=4,
        hidden_dim=UNITS,
        intermediate_dim=3 * UNITS,
    )
    return keras_hub.models.LlamaCausalLM(backbone)


def plain(task):
    """The task's layers as a model that takes any data: KerasHub's does not."""
    return keras.Model(task.input, task.output)


def build_student(row, teacher):
    if row not in (BLOCKS, BLOCKS_ALONE):
        return build(STUDENT_LAYERS)
    backbone, _ = kd.students.shrink(
        teacher.backbone,
        depth=STUDENT_LAYERS / TEACHER_LAYERS,
        config={"num_layers": STUDENT_LAYERS},
    )
    return keras_hub.models.LlamaCausalLM(backbone)


def distiller_of(row, teacher, cached, student):
    """What is fitted: the student, or a Distiller of it."""
    if row in (ALONE, BLOCKS_ALONE):
        return plain(student)
    loss = kd.losses.SoftTargets(temperature=1.0)
    if row == OWN_TEXTS:
        # What it wrote is no label, and yet the teacher's predictions count.
        transfer = kd.Transfer(loss, weight=0.5, ignore_class=False)
        return kd.Distiller(teacher, student, transfer, hard_weight=0.5)
    transfers = []
    if row == STATES:
        transfers = kd.schemes.layer_map(teacher, student)
    return kd.schemes.causal_lm(
        cached if row == TOP_K else teacher,
        student,
        kd.losses.ReverseKL() if row == REVERSE else loss,
        transfers=transfers,
        chunk_size=None,  # Logits of so few classes are small.
    )


# --- training -----------------------------------------------------------------


class Clock(keras.callbacks.Callback):
    """Processor time of a step, without the first epoch, which compiles."""

    def on_epoch_end(self, epoch, logs=None):
        now = time.process_time()
        if epoch == 0:
            self.begin = now
        self.seconds = (now - self.begin) / max(1, epoch)


def fit(model, data, steps):
    """Returns seconds of processor time of a step."""
    clock, epochs = Clock(), min(EPOCHS, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(RATE, clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        ),
        weighted_metrics=[],
    )
    rate = keras.callbacks.LearningRateScheduler(
        lambda epoch: RATE * np.cos(0.5 * np.pi * epoch / epochs) ** 2
    )
    model.fit(
        data,
        epochs=epochs,
        steps_per_epoch=steps // epochs,
        callbacks=[rate, clock],
        verbose=0,
    )
    return clock.seconds / (steps // epochs)


def data_of(row, seed, rows, cached, student, steps):
    if row == TOP_K:
        return cached.join(
            inputs_of(rows), rows[:, 1:], batch_size=BATCH_SIZE, seed=seed
        )
    if row != OWN_TEXTS:
        return Batches(rows, seed)
    return kd.text.GeneratedTexts(
        list(rows[:, :PROMPT]),
        list(rows[:, PROMPT:]),
        writer=student,
        share=0.5,
        batch_size=BATCH_SIZE,
        max_length=rows.shape[1] - 1,
        steps=steps // min(EPOCHS, steps),
        seed=seed,
        end_token_id=END,
        ignore_class=-1,
    )


def train(row, seed, teacher, cached, rows, steps):
    """A student, and the processor time of a step."""
    keras.utils.set_random_seed(seed)
    student = build_student(row, teacher)
    model = distiller_of(row, teacher, cached, student)
    data = data_of(row, seed, rows, cached, student, steps)
    return student, fit(model, data, steps)


def bits_per_byte(task, rows):
    logits = plain(task).predict(inputs_of(rows), batch_size=64, verbose=0)
    losses = ops.sparse_categorical_crossentropy(
        rows[:, 1:], logits, from_logits=True
    )
    return float(ops.mean(losses)) / np.log(2)


# --- results ------------------------------------------------------------------


def compare(teacher, cached, rows, test, steps, seeds):
    """Values by row at equal steps, at equal time; and times of a step."""
    same_steps, same_time = ({row: [] for row in ROWS} for _ in range(2))
    seconds = {}
    for seed in range(seeds):
        for row in ROWS:
            student, took = train(row, seed, teacher, cached, rows, steps)
            same_steps[row].append(bits_per_byte(student, test))
            seconds.setdefault(row, took)
            print_bits(seed, row, steps, same_steps)
        for row in ROWS:
            fewer = steps_of(row, seconds, steps)
            if fewer < steps:
                student, _ = train(row, seed, teacher, cached, rows, fewer)
                same_time[row].append(bits_per_byte(student, test))
            else:
                same_time[row].append(same_steps[row][-1])
            print_bits(seed, row, fewer, same_time)
    return same_steps, same_time, seconds


def print_bits(seed, row, steps, measures):
    bits = measures[row][-1]
    print(f"seed {seed}, {row}, {steps} steps: {bits:.3f}", flush=True)


def steps_of(row, seconds, steps):
    """How many steps take the time that the student alone takes for all."""
    share = min(1.0, seconds[ALONE] / max(seconds[row], 1e-9))
    if row == BLOCKS_ALONE:
        share = 1.0  # It is the same step.
    epochs = min(EPOCHS, steps)
    return max(1, round(share * steps / epochs)) * epochs


def print_table(same_steps, same_time, seconds, steps):
    print(f"\n{'':32}{'equal steps':>15}{'equal time':>15}", end="")
    print(f"{'steps':>7}{'ms a step':>11}")
    for row in ROWS:
        cells = [
            mean_and_spread(values[row]) for values in (same_steps, same_time)
        ]
        print(f"{row:32}{cells[0]:>15}{cells[1]:>15}", end="")
        print(f"{steps_of(row, seconds, steps):>7}{seconds[row] * 1e3:>11.0f}")


def mean_and_spread(values):
    spread = np.std(values, ddof=min(1, len(values) - 1))
    return f"{np.mean(values):.3f} ± {spread:.3f}"


def plot(path, same_steps, same_time, of_teacher):
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    for shift, (label, measures) in enumerate(
        {"equal steps": same_steps, "equal time": same_time}.items()
    ):
        places = np.arange(len(ROWS)) + 0.3 * shift - 0.15
        means = [np.mean(measures[row]) for row in ROWS]
        axes.plot(means, places, "o", label=label, color=f"C{shift}")
        for place, row in zip(places, ROWS):
            values = measures[row]
            axes.plot(values, [place] * len(values), "|", color=f"C{shift}")
    axes.axvline(of_teacher, color="0.5", ls="--", label="the teacher")
    axes.set_yticks(range(len(ROWS)), ROWS)
    axes.invert_yaxis()
    axes.set_xlabel("bits per byte, modules that were held out")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--teacher-steps", type=int, default=800)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--output", default="code_language_model.png")
    arguments = parser.parse_args()
    context, tests = CONTEXT, 512
    if arguments.smoke:
        arguments.seeds, arguments.teacher_steps, arguments.steps = 1, 2, 2
        context, tests = PROMPT + 2, 8

    paths = modules()
    held_out = [path for path in paths if is_held_out(path)]
    if arguments.smoke:
        paths, held_out = paths[:20], held_out[:2]
    train_tokens = tokens_of([path for path in paths if not is_held_out(path)])
    test_tokens = tokens_of(held_out)
    print(f"{len(train_tokens):,} bytes, {len(test_tokens):,} held out")
    test = windows(test_tokens, tests, context, seed=0)

    keras.utils.set_random_seed(0)
    teacher = build(TEACHER_LAYERS)
    count = arguments.teacher_steps * BATCH_SIZE
    rows = windows(train_tokens, count, context, seed=1)
    fit(plain(teacher), Batches(rows, seed=0), arguments.teacher_steps)
    of_teacher = bits_per_byte(teacher, test)
    sizes = [model.count_params() for model in (teacher, build(STUDENT_LAYERS))]
    print(f"teacher: {of_teacher:.3f}, weights: {sizes}", flush=True)

    count = arguments.steps * BATCH_SIZE
    rows = windows(train_tokens, count, context, seed=2)
    folder = Path(tempfile.mkdtemp())
    kd.cache.write(
        teacher,
        inputs_of(rows),
        folder,
        outputs=kd.cache.TopK(16),
        batch_size=64,
        verbose=0,
    )
    cached = kd.cache.open(folder, teacher=teacher)
    results = compare(
        teacher, cached, rows, test, arguments.steps, arguments.seeds
    )
    print_table(*results, arguments.steps)
    plot(arguments.output, *results[:2], of_teacher)
    print(f"\nFigure: {arguments.output}")


if __name__ == "__main__":
    main()
