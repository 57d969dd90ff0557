"""The quickstart's picture: learning curves and soft targets."""

import textwrap

import keras
import numpy as np

from keras_kd._src.quickstart.experiment import ALL
from keras_kd._src.quickstart.experiment import FEW

CAPTION = (
    "Left: test accuracy after each epoch. Alone, the student stops learning "
    f"with its {FEW} labels; distilled, it follows the one that has all {ALL}. "
    "Right: four test digits with the teacher's soft targets. A label is one "
    "class; soft targets also show which other classes a digit resembles."
)


def draw(path, report, teacher, images, labels):
    """Writes the picture, with its caption."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    rows = [["curves", f"image {i}", f"bars {i}"] for i in range(4)]
    axes = figure.subplot_mosaic(rows, width_ratios=[5, 1, 3.5])
    _draw_curves(axes["curves"], report)
    targets = soft_targets(teacher, images)
    for place, index in enumerate(unsure(targets, labels)[:4]):
        axes[f"image {place}"].imshow(images[index, ..., 0], cmap="gray_r")
        axes[f"image {place}"].set_axis_off()
        bars, label = axes[f"bars {place}"], labels[index]
        colors = np.where(np.arange(10) == label, "tab:green", "0.6")
        bars.bar(range(10), targets[index], color=colors)
        bars.set(xticks=range(10), yticks=[0, 0.4], ylim=(0, 0.5))
    axes["bars 0"].set_title("The teacher's soft targets (T = 4)", loc="right")
    axes["bars 3"].set_xlabel("class (green: the label)")
    figure.supxlabel(textwrap.fill(CAPTION, 150), fontsize=9)
    figure.savefig(path, dpi=110)


def soft_targets(teacher, images):
    """The teacher's probabilities at temperature 4."""
    logits = teacher(images, training=False) / 4.0
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def unsure(targets, labels):
    """Each class's least confident correct prediction, least confident first.

    They are given as sample indices.
    """
    right = targets.argmax(axis=-1) == labels
    order = np.argsort(np.where(right, targets.max(axis=-1), 1.0))
    firsts = np.unique(labels[order], return_index=True)[1]
    return order[np.sort(firsts)]


def _draw_curves(axis, report):
    for way, color in zip(report.ways[1:], ["tab:orange", "tab:blue", "0.6"]):
        curves = [
            run["history"]["val_accuracy"]
            for run in report.runs
            if run["way"] == way
        ]
        values = 100 * np.array(curves)
        ddof = min(1, len(values) - 1)
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=ddof)
        x, low, high = range(1, len(mean) + 1), mean - spread, mean + spread
        axis.plot(x, mean, color=color, label=way)
        axis.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    title = f"Learning curves, mean and spread of {len(curves)} seeds"
    axis.set(xlabel="epoch", ylabel="test accuracy, %", title=title)
    axis.legend(loc="lower right", frameon=False)
