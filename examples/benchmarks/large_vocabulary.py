"""Soft targets of a large vocabulary: all logits at once, and in chunks.

    KERAS_BACKEND=torch python examples/benchmarks/large_vocabulary.py

Compares `keras_kd.losses.soft_targets` of dense logits with
`chunked_soft_targets`: value and gradient with respect to the student's
hidden states, projection and bias, for 512 tokens, 256 units and a vocabulary
of 128,000 (a copy of the dense logits takes 250 MiB).

Each form runs in a process of its own, since the peak of memory is that of a
process; what is printed is the peak above what the inputs take. Of the times,
the fastest step counts, on the clock and in processor time (all threads; of
use if other programs run, too). Needs Linux, takes about a minute;
`--smoke` takes seconds and its figures mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

FORMS = ("dense", "chunks")


# --- one form, in a process of its own ----------------------------------------


def make_inputs(arguments):
    import keras

    shapes = {"hidden": (arguments.tokens, arguments.units)}
    shapes["kernel"] = (arguments.units, arguments.vocabulary)
    shapes["bias"] = (arguments.vocabulary,)
    # Logits of standard deviation 2 or so.
    sizes = {"hidden": 1.0, "kernel": 2.0 * arguments.units**-0.5, "bias": 0.1}
    return {
        f"{side}_{name}": keras.random.normal(
            shape, stddev=sizes[name], seed=seed
        )
        for seed, side in enumerate(("teacher", "student"))
        for name, shape in shapes.items()
    }


def loss(form, arguments, arrays):
    from keras import ops

    from keras_kd.losses import chunked_soft_targets
    from keras_kd.losses import soft_targets

    if form == "chunks":
        values = chunked_soft_targets(**arrays, chunk_size=arguments.chunk_size)
    else:
        logits = [
            ops.matmul(arrays[f"{side}_hidden"], arrays[f"{side}_kernel"])
            + arrays[f"{side}_bias"]
            for side in ("teacher", "student")
        ]
        values = soft_targets(*logits, temperature=1.0)
    return ops.mean(values)


def make_step(form, arguments, arrays):
    """A function without arguments: the value and the student's gradients."""
    import keras

    teacher = {n: a for n, a in arrays.items() if n.startswith("teacher")}
    student = {n: a for n, a in arrays.items() if n.startswith("student")}

    def of_student(student, teacher):
        return loss(form, arguments, {**teacher, **student})

    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(jax.value_and_grad(of_student))
        step = step.lower(student, teacher).compile()
        return lambda: jax.block_until_ready(step(student, teacher))
    if keras.backend.backend() == "torch":
        return torch_step(of_student, student, teacher)
    import tensorflow as tf

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = of_student(student, teacher)
        return value, tape.gradient(value, student)

    step.get_concrete_function()
    return step


def torch_step(of_student, student, teacher):
    import torch

    student = {n: a.requires_grad_(True) for n, a in student.items()}

    def step():
        value = of_student(student, teacher)
        gradients = torch.autograd.grad(value, list(student.values()))
        return value.detach(), dict(zip(student, gradients))

    return step


def memory(field):
    """A figure of this process's memory, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}.")


def measure(form, arguments):
    import keras

    step = make_step(form, arguments, make_inputs(arguments))
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = memory("VmRSS")
    clock, processor = [], []
    for _ in range(arguments.steps + 1):
        start = time.perf_counter(), time.process_time()
        value, gradients = step()
        value = float(keras.ops.convert_to_numpy(value))
        clock.append(1000 * (time.perf_counter() - start[0]))
        processor.append(1000 * (time.process_time() - start[1]))
        lengths = {
            name: float(keras.ops.norm(keras.ops.reshape(array, (-1,))))
            for name, array in gradients.items()
        }
        del gradients
    return {
        "ms": min(clock[1:]),
        "processor ms": min(processor[1:]),
        "peak MiB": memory("VmHWM") - before,
        "value": value,
        "gradients": lengths,
    }


# --- both, one after the other ------------------------------------------------


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
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=128_000)
    parser.add_argument("--chunk-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.tokens, arguments.units, arguments.steps = 16, 8, 1
        arguments.vocabulary, arguments.chunk_size = 1000, 300
    if arguments.form:
        print(json.dumps(measure(arguments.form, arguments)))
        return
    results = {form: in_a_process(form) for form in FORMS}
    dense, chunks = (results[form] for form in FORMS)
    print(f"{os.environ.get('KERAS_BACKEND', 'default backend')}")
    print(f"{'':14}{'dense':>10}{'chunks':>10}{'ratio':>8}")
    for name in ("ms", "processor ms", "peak MiB"):
        ratio = chunks[name] / max(dense[name], 1e-9)
        print(f"{name:14}{dense[name]:10.0f}{chunks[name]:10.0f}{ratio:8.2f}")
    differences = [abs(chunks["value"] / dense["value"] - 1)]
    for name, length in dense["gradients"].items():
        differences.append(abs(chunks["gradients"][name] / length - 1))
    print(
        "largest difference of the value and the gradients' lengths: "
        f"{max(differences):.1e}"
    )


if __name__ == "__main__":
    main()
