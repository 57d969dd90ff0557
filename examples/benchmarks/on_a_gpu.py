"""What distillation costs on a GPU, in one table, within eight minutes.

    python examples/benchmarks/on_a_gpu.py

Runs unattended, on JAX, PyTorch and TensorFlow, whichever are installed, one
process for each after the other. Measured is on each, in bfloat16:

- the head of 128,000 classes in chunks, against all logits and a model by hand
  (`large_vocabulary.py`, 8 x 512 tokens, float32): time and peak of memory
- ResNet-50 to MobileNetV3-Large, batches of 128 images of 224 x 224: a step of
  `Distiller` in `fit` against a loop of the backend's own (`step_time.py`),
  soft targets alone, and with a feature transfer and its adapter
- decoders of 12 x 1024 and 6 x 512 units, 8 x 1024 tokens, 32,000 classes:
  the same
- ResNet-50's predictions, written once as top-32: images a second, and a step
  of the student alone, with the teacher, and with the cache (batches come from
  the host here; elsewhere one batch stays on the device)

and after that `pytest -m quick` on all backends at once, where the tests are.

The time (`--minutes`, 7.5) is divided: three tenths for the tests, the rest
between the backends, and there between the parts; what one leaves, the next
ones have. What a part's models took to be made and compiled is the least that a
later part must have left. What was left out, failed or was not finished is
said. Printed is a table in Markdown; `on_a_gpu.json` has all of it. The first
losses of one case's ways have to agree, up to rounding.

`--backends jax torch` takes these alone. `--smoke` measures small models on the
backend that `KERAS_BACKEND` names, on the CPU in seconds; its figures mean
nothing.

Nothing was measured yet: no GPU was to be had when this was written, and only
the short form was run. The figures of the first GPU go here, with its name,
the versions and the date: the table as it is printed.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

BACKENDS = ("jax", "torch", "tensorflow")
FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
TESTS_SHARE = 0.3
TO_END = 10  # Seconds that a process has to end by itself.
COLUMNS = {
    "part": "part",
    "case": "case",
    "way": "way",
    "ms": "ms/step",
    "ratio": "ratio",
    "GiB": "peak GiB",
    "first loss": "first loss",
    "written/s": "written/s",
    "set-up s": "set-up s",
}
REMARKS = ("left out", "failed", "not finished", "result")


def environment(backend):
    """Backends that share a GPU take memory as they need it."""
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def end(process, grace=TO_END):
    """Ends a process and what it started, at first by asking."""
    for number, wait in ((signal.SIGINT, grace), (signal.SIGKILL, None)):
        if process.poll() is None:
            os.killpg(process.pid, number)
        try:
            return process.wait(wait)
        except subprocess.TimeoutExpired:
            continue


def started(command, backend, printed):
    return subprocess.Popen(
        command,
        env=environment(backend),
        cwd=ROOT,
        stdout=printed,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def measured(backend, seconds, smoke):
    """The rows of one backend, from a process that ends in time."""
    with tempfile.TemporaryDirectory() as folder:
        rows = pathlib.Path(folder) / "rows"
        rows.touch()
        until = time.time() + seconds - TO_END
        command = [sys.executable, FOLDER / "gpu_parts.py", rows, str(until)]
        with open(pathlib.Path(folder) / "printed", "w+") as printed:
            process = started(command + ["--smoke"] * smoke, backend, printed)
            try:
                process.wait(seconds - TO_END)
            except subprocess.TimeoutExpired:
                end(process, grace=TO_END / 2)
            printed.seek(0)
            lines = printed.read().splitlines()
        found = [json.loads(line) for line in rows.read_text().splitlines()]
    return with_missing(backend, found, lines)


def with_missing(backend, rows, printed):
    """Rows with their backend and device, and one for what is missing."""
    if not rows:
        last = " ".join(printed[-2:])[-200:]
        rows = [{"part": "all", "failed": f"no part was begun: {last}"}]
    head = rows[0]
    done = [row.get("done", row.get("part")) for row in rows]
    missing = [
        {"part": name, "not finished": "its time was up"}
        for name in head.get("planned", [])
        if name not in done
    ]
    where = {"backend": backend, "device": head.get("device", "unknown")}
    rows = [row for row in rows if "part" in row]
    return [{**where, **row} for row in rows + missing]


def quick_tests(backends, seconds, smoke):
    """`pytest -m quick` of all backends at once; what its last line says."""
    if not (ROOT / "tests").is_dir():
        why = {"part": "quick tests", "left out": "the tests are not here"}
        return [{"backend": backend, **why} for backend in backends]
    which = ["--version"] if smoke else ["-q", "-m", "quick"]
    command = [sys.executable, "-m", "pytest", *which]
    until, runs = time.time() + seconds - TO_END, {}
    with contextlib.ExitStack() as files:
        for backend in backends:
            printed = files.enter_context(tempfile.TemporaryFile("w+"))
            runs[backend] = started(command, backend, printed), printed
        return [
            {"backend": backend, "part": "quick tests", **outcome(*run, until)}
            for backend, run in runs.items()
        ]


def outcome(process, printed, until):
    """The last line that tests printed, once they end or their time is up."""
    found = {}
    try:
        process.wait(max(until - time.time(), 0))
    except subprocess.TimeoutExpired:
        end(process)
        found["not finished"] = "its time was up"
    printed.seek(0)
    lines = [line.strip("= \n") for line in printed if line.strip()]
    return {**found, "result": " ".join(lines[-1:])}


def table(rows):
    """The rows as Markdown, and those that are a remark below it."""
    names = ["backend", *COLUMNS.values()]
    lines = [names, ["---"] * len(names)]
    lines += [
        [row["backend"], *(shown(row.get(key)) for key in COLUMNS)]
        for row in rows
        if "way" in row
    ]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    for row in rows:
        for key in REMARKS:
            if key in row:
                text.append(
                    f"\n{row['backend']}, {row['part']}: {key}: {row[key]}"
                )
    return "\n".join(text)


def shown(value):
    return "" if value is None else str(value)


def installed():
    return [name for name in BACKENDS if importlib.util.find_spec(name)]


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures on a GPU.")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS)
    parser.add_argument("--json", default="on_a_gpu.json")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.backends = [os.environ.get("KERAS_BACKEND", "tensorflow")]
    arguments.backends = arguments.backends or installed()
    return arguments


def main():
    arguments = parse_arguments()
    begin = time.time()
    seconds, backends = 60 * arguments.minutes, arguments.backends
    for_tests, rows = TESTS_SHARE * seconds, []
    for number, backend in enumerate(backends):
        left = begin + seconds - for_tests - time.time()
        share = left / (len(backends) - number)
        rows += measured(backend, share, arguments.smoke)
        print(f"{backend}: {time.time() - begin:.0f} s", file=sys.stderr)
    left = begin + seconds - time.time()
    rows += quick_tests(backends, left, arguments.smoke)
    pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1))
    devices = {row["device"] for row in rows if "device" in row}
    print(f"{', '.join(devices)}, {time.time() - begin:.0f} s in all\n")
    print(table(rows))
    if arguments.smoke and any("failed" in row for row in rows):
        sys.exit("A part failed.")
    if not any("way" in row for row in rows):
        sys.exit("Nothing was measured.")


if __name__ == "__main__":
    main()
