"""The quickstart's text: what is run, the results, and what to read next."""

import argparse
import importlib.util
import pathlib
import sys
import tempfile
import textwrap

import keras
import numpy as np

from keras_kd._src.compare.rows import tables
from keras_kd._src.compare.table import text_table
from keras_kd._src.compare.ways import DISTILLED
from keras_kd._src.compare.ways import TEACHER
from keras_kd._src.quickstart import experiment
from keras_kd._src.quickstart import picture
from keras_kd._src.quickstart.experiment import ALL
from keras_kd._src.quickstart.experiment import ALL_LABELS
from keras_kd._src.quickstart.experiment import FEW

PACKAGES = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}
NEXT = """\
Read next, in the folder guides/ of the repository:
  notebooks/getting_started.ipynb   the same in your own code, step by step
  choose.md                         which method for which task
  how_to/index.md                   short recipes: your data, your models"""


def main():
    """Runs the quickstart with the arguments of the command line."""
    parser = argparse.ArgumentParser(
        "python -m keras_kd.quickstart",
        description="Distil on handwritten digits, in about a minute.",
    )
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--output", type=pathlib.Path, default="quickstart.png")
    parser.add_argument(
        "--folder", help="keeps finished runs, to continue from"
    )
    arguments = parser.parse_args()
    stop_without_packages()
    use_one_thread()
    seeds, epochs = (1, 2) if arguments.smoke else (5, 30)
    print(beginning(4 * seeds, arguments.smoke))
    train, test = experiment.load_data()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.folder or temporary)
        report = experiment.run(
            train, test, seeds=range(seeds), epochs=epochs, folder=folder
        )
        teacher = experiment.build_teacher()
        with np.load(folder / "teacher_seed_0.npz") as weights:
            teacher.set_weights(list(weights.values()))
    page = arguments.output.with_suffix(".html")
    picture.draw(arguments.output, report, teacher, *test)
    report.to_html(page)
    print(ending(report, arguments.output, page))


def stop_without_packages():
    """Ends the process if packages are missing, and says how to install."""
    missing = [
        package
        for module, package in PACKAGES.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        sys.exit(
            f"The quickstart also needs {' and '.join(missing)}, for its data "
            f"and its picture: pip install {' '.join(missing)}"
        )


def use_one_thread():
    """On PyTorch, where more threads would only wait for one another."""
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)


def beginning(trainings, smoke):
    """The text printed before the runs."""
    duration = (
        "as a short test, whose numbers mean nothing"
        if smoke
        else "about a minute on two cores"
    )
    text = (
        f"Handwritten digits, on {keras.backend.backend()}. A small network "
        f"has {FEW} labels and {ALL} images. How much does a large one help? "
        f"{trainings} training runs follow, {duration}. The time left that is "
        "shown is for training only: compiling adds to it."
    )
    return f"{textwrap.fill(text, 80)}\n"


def ending(report, output, page):
    """The results, what they mean, and what to read next."""
    _, titles, cells = tables(report)[0]
    texts = [
        *sentences(report),
        f"{output}: {picture.CAPTION}",
        f"{page}: the whole report, for a browser.",
    ]
    wrapped = [textwrap.fill(text, 80) for text in texts]
    table = text_table(titles, cells)
    return "\n\n".join([f"\n{table}", *wrapped, NEXT])


def sentences(report):
    """Three sentences: does it help, compared with labels, at which size."""
    values = {way: 100 * report.values(way).mean() for way in report.ways}
    against = {way: values[way] - values[DISTILLED] for way in values}
    size = {way: report.costs[way]["parameters"] for way in report.ways}
    return [
        report.sentences()[0],
        f"With all {ALL} labels and no teacher it reaches "
        f"{values[ALL_LABELS]:.1f} %, {against[ALL_LABELS]:+.1f} points: "
        f"that much the {ALL - FEW} missing labels would still add.",
        f"The teacher reaches {values[TEACHER]:.1f} % with {size[TEACHER]:,} "
        f"parameters; the student has {size[DISTILLED]:,}, "
        f"{size[TEACHER] / size[DISTILLED]:.0f} times fewer, and is "
        f"{against[TEACHER]:.1f} points below it.",
    ]
