"""The quickstart's story: what is done, what came out, what to read next."""

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
    """Runs the quickstart, as the command line says."""
    parser = argparse.ArgumentParser(
        "python -m keras_kd.quickstart",
        description="Distill on handwritten digits, in about a minute.",
    )
    parser.add_argument("--smoke", action="store_true", help="a short test")
    parser.add_argument("--output", type=pathlib.Path, default="quickstart.png")
    parser.add_argument("--folder", help="of finished runs, to go on with")
    arguments = parser.parse_args()
    stop_without_packages()
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
    """Ends the process with what to install."""
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


def beginning(trainings, smoke):
    """What will be done."""
    duration = (
        "as a short test, whose numbers mean nothing"
        if smoke
        else "about a minute on two cores"
    )
    text = (
        f"Handwritten digits, on {keras.backend.backend()}. A small network "
        f"has {FEW} labels and {ALL} images. How much does a large one help? "
        f"{trainings} trainings follow, {duration}. The time that is left is "
        "training alone: compiling comes on top."
    )
    return f"{textwrap.fill(text, 80)}\n"


def ending(report, output, page):
    """What came out, what it means, and what to read next."""
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
    """Three: does it help, compared with labels, and at which size."""
    values = {way: 100 * report.values(way).mean() for way in report.ways}
    against = {way: values[way] - values[DISTILLED] for way in values}
    size = {way: report.costs[way]["parameters"] for way in report.ways}
    return [
        report.sentences()[0],
        f"With all {ALL} labels and no teacher it reaches "
        f"{values[ALL_LABELS]:.1f} %, {against[ALL_LABELS]:+.1f} points: "
        f"that is what the {ALL - FEW} missing labels would still add.",
        f"The teacher reaches {values[TEACHER]:.1f} % with {size[TEACHER]:,} "
        f"parameters; the student has {size[DISTILLED]:,}, "
        f"{size[TEACHER] / size[DISTILLED]:.0f} times fewer, and gives up "
        f"{against[TEACHER]:.1f} points.",
    ]
