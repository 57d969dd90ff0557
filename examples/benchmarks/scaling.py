"""What a distillation step costs and communicates on 8, 64 and 512 chips.

    python examples/benchmarks/scaling.py
    python examples/benchmarks/scaling.py --chip a100
    python examples/benchmarks/scaling.py --chip v5e --teacher 2e9 --student 3e8

On paper, for a teacher of N_t and a student of N_s parameters, D tokens a step
on n chips, three ways to have the teacher's predictions:

- teacher sharded: each chip holds a part of it, and all-gathers its weights for
  each pass (FSDP)
- teacher replicated: each chip holds it
- cached predictions: they were written once (`cache.TopK(32)`: 130 bytes a
  token of up to 65,536 classes, 194 of more), and are read

A chip then has, in each step:

    FLOPs          (6 N_s + 2 N_t) D / n; with a cache 6 N_s D / n
    all-reduce     2 (n - 1) / n x 4 N_s bytes: the student's gradients
    all-gather     (n - 1) / n x 2 N_t bytes for each pass of the teacher over a
                   microbatch, where it is sharded (bfloat16)
    reading        130 or 194 bytes x D / n, with a cache
    weights        16 N_s bytes (weights, gradients and Adam's, float32), and
                   2 N_t / n sharded, 2 N_t replicated, 0 with a cache

A teacher in tensor-parallel layers sends activations in place of weights: 2
(m - 1) / m x rows x width x bytes for each pair of layers that m chips share;
of all terms that one alone grows with the batch. Bytes within an island of
chips (a node, a pod) go at its speed; between islands each chip sends its share
of them. Nothing overlaps, so this is the slow end: compilers hide some.

By simulation, the bytes are checked: the step that `Distiller.fit` compiles on
JAX for 8 virtual devices is taken from XLA, its collectives are counted, and
the script ends with an error where they are 1 % off the formula. Needs JAX; a
minute or two on a CPU; `--smoke` compiles one case of four. A plot goes to
`scaling_<chip>.png`.

Published figures used, bytes in each direction: H100 SXM 989 TFLOP/s (dense
bfloat16), NVLink 450 GB/s, 400 Gb/s of network a GPU (data sheets of the H100
and of the DGX H100); A100 312 TFLOP/s, 300 GB/s, 200 Gb/s (data sheets of the
A100 and of the DGX A100); TPU v5e 197 TFLOP/s, 1,600 Gb/s between chips, 6.4
Tb/s of network a pod of 256 (cloud.google.com/tpu/docs/v5e). 40 % of the FLOP/s
are taken to be used. None of the times was measured.

H100, teacher 7 B, student 1 B, 2^20 tokens a step, 16,384 a pass at most:

                           chips  compute  all-reduce  all-gather  chip-s a
                                       ms          ms          ms  M tokens
    teacher sharded            8     6626          16         218      52.3
                              64      828          33          58      56.1
                             512      104          35          62      97.9
    teacher replicated         8     6626          16           0      50.7
                              64      828          33           0      52.6
                             512      104          35           0      67.8
    cached predictions         8     1988          16           0      15.3
                              64      248          33           0      17.2
                             512       31          35           0      32.4

- The all-reduce takes as long on 512 chips as on 64, while the computing
  shrinks: communication is the longer part from 512 chips with a cache, from
  1,024 sharded and 2,048 replicated. A larger batch moves that out, in
  proportion. The cache is the cheapest at each number nonetheless.
- A sharded teacher's gather is hidden by its own pass from 770 (8 chips) to
  1,740 (512) tokens a chip and pass on, whatever its size. Below that,
  replicate it if it fits: 2 bytes a parameter beside the student's 16.
- A cache pays from the second pass over the data on, or the second student:
  writing it is one pass of the teacher. Reading is 6 to 13 MB/s a chip here; it
  takes 1 GB/s a chip only for students of 13 M parameters and less.

What XLA sends in a step of two small models, kB for each of 8 devices:

                                        XLA    formula
    teacher sharded    all-gather    1519.6     1519.6
                       all-reduce     838.5      837.1
    teacher replicated all-reduce     838.5      837.1
    cached             all-reduce     838.5      837.1
    tensor parallel    all-reduce     577.4      576.6  (2 x 4 devices)

What is above the formula are the losses' and checks' scalars. Found by this:
`TopK` was restored by one scatter over all rows, for which each device was
sent the predictions of all (12 k bytes for each token of the whole batch); it
goes row by row now, and nothing is sent.
"""

import argparse
import dataclasses
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CHIPS = (8, 64, 512)
WAYS = ("teacher sharded", "teacher replicated", "cached predictions")
DEVICES = 8  # Of the simulation.
FAST_READING = 1e9  # Bytes a second and chip.


@dataclasses.dataclass
class Chip:
    """Published figures of a chip; bytes each way, a second and chip."""

    flops: float  # bfloat16, dense.
    memory: float
    near: float  # To the chips of its island (node or pod).
    island: int
    far: float  # To other islands.


MACHINES = {
    "h100": Chip(989e12, 80e9, near=450e9, island=8, far=50e9),
    "a100": Chip(312e12, 80e9, near=300e9, island=8, far=25e9),
    "v5e": Chip(197e12, 16e9, near=200e9, island=256, far=3.1e9),
}


# --- on paper -----------------------------------------------------------------


def collective_seconds(chip, chips, size, passes):
    """Seconds to all-gather `size` bytes (1 pass), or all-reduce (2 passes).

    Within islands all bytes, between them each chip its island's share.
    """
    near = min(chips, chip.island)
    far = chips // near
    inside = (near - 1) / near * size / chip.near
    outside = (far - 1) / far * size / near / chip.far
    return passes * (inside + outside)


@dataclasses.dataclass
class Step:
    """One step on one chip."""

    compute: float  # Seconds.
    gradients: float  # Seconds of the student's all-reduce.
    gathers: float  # Seconds of the teacher's all-gathers.
    sent: float  # Bytes.
    read: float  # Bytes of cached predictions.
    memory: float  # Bytes of weights, gradients and optimizer.

    @property
    def communication(self):
        return self.gradients + self.gathers

    @property
    def efficiency(self):
        """The part of the time that is computing, if nothing overlaps."""
        return self.compute / (self.compute + self.communication)

    @property
    def seconds(self):
        return self.compute + self.communication


def step(way, chips, sizes):
    """What a step costs a chip, by the formulas above."""
    chip, tokens = MACHINES[sizes.chip], sizes.tokens / chips
    live = way != "cached predictions"
    flops = tokens * (6 * sizes.student + live * 2 * sizes.teacher)
    gradients, weights = 4 * sizes.student, 2 * sizes.teacher
    gathers = 0
    if way == "teacher sharded":
        gathers = math.ceil(tokens / sizes.microbatch)
    share = (chips - 1) / chips
    return Step(
        compute=flops / (chip.flops * sizes.utilization),
        gradients=collective_seconds(chip, chips, gradients, passes=2),
        gathers=gathers * collective_seconds(chip, chips, weights, passes=1),
        sent=share * (2 * gradients + gathers * weights),
        read=0 if live else tokens * sizes.bytes_per_token,
        memory=16 * sizes.student
        + weights * {WAYS[0]: 1 / chips, WAYS[1]: 1, WAYS[2]: 0}[way],
    )


def stops_paying(way, sizes):
    """The fewest chips (a power of 2) that communicate longer than compute."""
    for power in range(1, 20):
        found = step(way, 2**power, sizes)
        if found.communication > found.compute:
            return 2**power
    return None


def tokens_to_hide_a_gather(sizes, chips):
    """Tokens a pass whose teacher's forward takes as long as its gather."""
    chip = MACHINES[sizes.chip]
    seconds = collective_seconds(chip, chips, 2.0, passes=1)  # Of a weight.
    return seconds * chip.flops * sizes.utilization / 2  # FLOPs of it.


def print_paper(sizes):
    chip = MACHINES[sizes.chip]
    print(
        f"\n{sizes.chip}: teacher {sizes.teacher / 1e9:g} B, student "
        f"{sizes.student / 1e9:g} B, {sizes.tokens} tokens a step, "
        f"{sizes.microbatch} at most at once, {sizes.bytes_per_token} bytes of "
        "predictions a token"
    )
    print(
        "| way | chips | tokens/chip | compute ms | all-reduce ms | "
        "all-gather ms | sent GB/chip | read MB/s/chip | computing | "
        "chip-s/M tokens | weights GB |"
    )
    print("|---" * 11 + "|")
    for way in WAYS:
        for chips in CHIPS:
            one = step(way, chips, sizes)
            full = "" if one.memory <= chip.memory else " (too many)"
            cost = one.seconds * chips / sizes.tokens * 1e6
            print(
                f"| {way} | {chips} | {sizes.tokens // chips} "
                f"| {1e3 * one.compute:.0f} | {1e3 * one.gradients:.1f} "
                f"| {1e3 * one.gathers:.1f} | {one.sent / 1e9:.1f} "
                f"| {one.read / one.seconds / 1e6:.1f} "
                f"| {one.efficiency:.0%} | {cost:.1f} "
                f"| {one.memory / 1e9:.0f}{full} |"
            )
    for way in WAYS:
        chips = stops_paying(way, sizes)
        print(f"{way}: communicates longer than it computes from {chips}")
    tokens = [tokens_to_hide_a_gather(sizes, chips) for chips in CHIPS]
    print(
        f"a gather over {CHIPS} chips takes as long as the teacher's pass over "
        f"{[round(number) for number in tokens]} tokens a chip"
    )
    flops = chip.flops * sizes.utilization
    student = sizes.bytes_per_token * flops / (6 * FAST_READING)
    print(
        f"reading takes {FAST_READING / 1e9:g} GB/s a chip from students of "
        f"{student / 1e6:.0f} M parameters down"
    )


def plot(sizes, path):
    """Chip-seconds for a million tokens, over the number of chips."""
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    numbers = [2**power for power in range(3, 13)]
    for way in WAYS:
        costs = [
            step(way, chips, sizes).seconds * chips / sizes.tokens * 1e6
            for chips in numbers
        ]
        axis.loglog(numbers, costs, marker="o", label=way, base=2)
    axis.set_xlabel(f"chips ({sizes.chip}), {sizes.tokens} tokens a step")
    axis.set_ylabel("chip-seconds a million tokens")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"\nplot: {path}")


# --- by simulation: a process with virtual devices ----------------------------


CASES = (*WAYS, "teacher tensor parallel")
WIDTHS = {"teacher": 256, "student": 128}
BATCH, INPUTS, PAIRS, CLASSES = 64, 64, 2, 32


def perceptron(name):
    import keras

    width = WIDTHS[name]
    inputs = x = keras.Input((INPUTS,))
    for number in range(PAIRS):
        x = keras.layers.Dense(
            2 * width, activation="relu", name=f"{name}_up_{number}"
        )(x)
        x = keras.layers.Dense(width, name=f"{name}_down_{number}")(x)
    logits = keras.layers.Dense(CLASSES, name=f"{name}_head")(x)
    return keras.Model(inputs, logits, name=name)


def set_devices(case):
    """How models and batches lie on the devices."""
    import keras
    from keras import distribution

    if case in ("teacher replicated", "cached predictions"):
        distribution.set_distribution(distribution.DataParallel())
        return
    if case == "teacher sharded":
        mesh = distribution.DeviceMesh((DEVICES,), ["batch"])
        layout = distribution.LayoutMap(mesh)
        layout["teacher_.*/kernel"] = ("batch", None)
    else:
        mesh = distribution.DeviceMesh((2, DEVICES // 2), ["batch", "model"])
        layout = distribution.LayoutMap(mesh)
        layout["teacher_up.*/kernel"] = (None, "model")
        layout["teacher_up.*/bias"] = ("model",)
        layout["teacher_down.*/kernel"] = ("model", None)
    keras.distribution.set_distribution(
        distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    )


def simulate(case):
    """Fits one step, of which XLA writes down what it compiled."""
    import keras
    import numpy as np

    import keras_kd as kd

    x = np.zeros((BATCH, INPUTS), "float32")
    y = np.zeros(BATCH, "int32")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / "cache"
        if case == "cached predictions":
            kd.cache.write(
                perceptron("teacher"),
                x,
                folder,
                outputs=kd.cache.TopK(8),
                verbose=0,
            )
        set_devices(case)
        data = {"x": x, "y": y, "batch_size": BATCH}
        if case == "cached predictions":
            teacher = kd.cache.open(folder)
            data = {"x": teacher.join(x, y, batch_size=BATCH)}
        else:
            teacher = perceptron("teacher")
        distiller = kd.Distiller(teacher, perceptron("student"))
        distiller.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        distiller.fit(**data, verbose=0)


BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1}
COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|"
    r"collective-permute)(?:-start)?\(.*"
)


def sent_bytes(text):
    """Bytes that a device sends, by kind of collective, in a compiled module.

    In rings, as in the formulas: of what an all-gather makes each device sends
    (n - 1)/n, of what an all-reduce makes twice that.
    """
    sent = {}
    for match in COLLECTIVE.finditer(text):
        made, kind = match.groups()
        devices = group_size(match.group())
        passes = {"all-reduce": 2, "reduce-scatter": devices}.get(kind, 1)
        size = sum(
            BYTES[dtype] * math.prod(int(n) for n in shape.split(",") if n)
            for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", made)
        )
        share = (devices - 1) / devices
        sent[kind] = sent.get(kind, 0) + passes * share * size
    return sent


def group_size(line):
    """How many devices take part in a collective, in any form XLA writes."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    if listed:
        return len(listed.group(1).split(","))
    shape = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    if shape:
        return int(shape.group(1))
    mesh, axes = re.search(
        r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", line
    ).groups()
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh))
    return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", axes))


def expected_bytes(case):
    """The same by the formulas."""
    parameters = {name: count_parameters(name) for name in WIDTHS}
    share = (DEVICES - 1) / DEVICES
    found = {"all-reduce": 2 * share * 4 * parameters["student"]["all"]}
    if case == "teacher sharded":
        found["all-gather"] = share * 4 * parameters["teacher"]["kernels"]
    if case == "teacher tensor parallel":
        rows, model = BATCH // 2, DEVICES // 2
        # The gradients go between the two halves of the batch. Each pair of
        # layers sums its outputs among the devices that share it.
        activations = PAIRS * rows * WIDTHS["teacher"] * 4
        found["all-reduce"] = 2 * (
            1 / 2 * 4 * parameters["student"]["all"]
            + (model - 1) / model * activations
        )
    return found


def count_parameters(name):
    """How many a perceptron has, in all and without biases."""
    width = WIDTHS[name]
    sizes = [INPUTS, *[2 * width, width] * PAIRS, CLASSES]
    kernels = sum(a * b for a, b in zip(sizes, sizes[1:]))
    return {"kernels": kernels, "all": kernels + sum(sizes[1:])}


def compiled_step(case, folder):
    """The text of a case's step, as XLA compiled it for one device of eight."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # It would skip the text.
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES} "
        f"--xla_dump_to={folder} --xla_dump_hlo_as_text",
    }
    command = [sys.executable, __file__, "--simulate", case]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    paths = pathlib.Path(folder).glob("*jit_train_step*after_optimizations.txt")
    return max(paths, key=lambda path: path.stat().st_size).read_text()


def print_simulation(cases):
    """What XLA's step sends, beside the formulas; ends if they differ."""
    print(f"\nSimulation, {DEVICES} devices: kB that each sends in a step")
    print("| case | collective | XLA | formula | ratio |\n" + "|---" * 5 + "|")
    wrong = []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = sent_bytes(compiled_step(case, folder))
        expected = expected_bytes(case)
        for kind in sorted({*found, *expected}):
            is_, should = found.get(kind, 0), expected.get(kind, 0)
            ratio = is_ / should if should else math.inf
            print(
                f"| {case} | {kind} | {is_ / 1e3:.1f} | {should / 1e3:.1f} "
                f"| {ratio:.3f} |"
            )
            if not 0.99 < ratio < 1.01:
                wrong.append(case)
    if wrong:
        sys.exit(f"XLA's collectives are not those of the formula: {wrong}")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Costs on many chips.")
    parser.add_argument("--chip", choices=list(MACHINES), default="h100")
    parser.add_argument("--teacher", type=float, default=7e9)
    parser.add_argument("--student", type=float, default=1e9)
    parser.add_argument("--tokens", type=int, default=2**20, help="a step")
    parser.add_argument("--microbatch", type=int, default=2**14)
    parser.add_argument("--bytes-per-token", type=int, default=194)
    parser.add_argument("--utilization", type=float, default=0.4)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--simulate", help="this case, here")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.simulate:
        simulate(arguments.simulate)
        return
    print_paper(arguments)
    plot(arguments, f"scaling_{arguments.chip}.png")
    print_simulation(CASES[2:3] if arguments.smoke else CASES)


if __name__ == "__main__":
    main()
