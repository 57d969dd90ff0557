"""
Title: Self-distillation and mutual learning
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/30
Description: Students that learn from each other, or from their own predictions.
Accelerator: None
Needs: pip install ".[jax,quickstart]"
"""

"""
## Introduction

Distillation needs a teacher. What if there is none, and you don't want to train
a large model that is used for nothing else?

Much of what a teacher gives can be had without one. A soft target contains more
than a label: how certain the class of this sample is, and which other classes
are similar. Such targets can come

- from **other students** that train at the same time (*online* distillation);
- from the **last layers** of the student itself, for its first layers;
- from the student's **previous-epoch predictions**;
- from a moving **average** of the student's weights.

In this guide you will try all four on the same data, with the same small
network. In all of them nothing is trained beforehand. You write

```python
kd.SelfDistiller(student, transfers)
```

in place of `kd.Distiller(teacher, student, transfers)`: both sides of a
transfer are layers of the student.

You should know [Getting started](getting_started.ipynb).
"""

import pathlib
import re

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.feature_extraction.text import CountVectorizer

import keras_kd as kd

# One seed in a trial run, under the environment variable KERAS_MAX_EPOCHS=1.
SEEDS = range(1 if keras.config.max_epochs() == 1 else 3)
EPOCHS = 30
BATCH_SIZE = 32
LABELED = 600

"""
## The data

As in [Is distillation worth it?](is_it_worth_it.ipynb), a model finds out which
part of Python's standard library three lines of code are from. That is often
uncertain: some lines could be from anywhere. So soft targets should be of use.

The snippets become vectors: which of 2,000 words and signs are in them. We have
600 with labels, 3,400 without, which only the last method uses, and 2,000 for
the test.
"""

LIBRARY = pathlib.Path(re.__file__).parents[1]
NAMES = ["asyncio", "email", "http", "importlib", "logging"]
NAMES += ["multiprocessing", "tarfile.py", "turtle.py", "unittest", "xml"]


def snippets(name):
    path = LIBRARY / name
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    text = "\n".join(file.read_text("utf-8") for file in files)
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if re.search(r"\w{3}", line)]
    return ["\n".join(lines[n : n + 3]) for n in range(0, len(lines) - 2, 3)]


generator = np.random.default_rng(0)
texts, labels = [], []
for label, name in enumerate(NAMES):
    texts += list(generator.choice(snippets(name), 600, replace=False))
    labels += [label] * 600
order = generator.permutation(len(texts))
texts, labels = [texts[n] for n in order], np.array(labels, "int32")[order]

vectorizer = CountVectorizer(
    max_features=2000, binary=True, token_pattern=r"[A-Za-z]+|[^\sA-Za-z]"
)
vectorizer.fit(texts[:4000])
x = vectorizer.transform(texts).toarray().astype("float32")
known_x, known_y = x[:LABELED], labels[:LABELED]
other_x = x[LABELED:4000]
test_x, test_y = x[4000:], labels[4000:]

"""
## The student, alone

A network with two hidden layers. We name them, as transfers need their names.
"""


def make_student(name="student", units=64):
    stack = [keras.Input((2000,))]
    for stage in ("stage1", "stage2"):
        stack += [layers.Dense(units, activation="relu", name=stage)]
        stack += [layers.Dropout(0.3)]
    return keras.Sequential(
        [*stack, layers.Dense(10, name="logits")], name=name
    )


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )


def fit(model, x=known_x, y=known_y, epochs=EPOCHS):
    model.compile(keras.optimizers.Adam(2e-3), classification_loss())
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)


"""
We measure two things. *Accuracy* is how often a model is right. *Calibration
error* is how far its confidence is from that: a model with 90 % confidence in
all its predictions that is right in 70 % of the cases has an error of 20
points. Models that are trained on few labels are often too confident, as a
label does not show that a sample is uncertain.
"""


def calibration_error(probabilities, bins=15):
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == test_y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, right - confidence, minlength=bins)
    return 100 * np.abs(gaps).sum() / len(test_y)


def judge(model):
    logits = model.predict(test_x, batch_size=1000, verbose=0)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    accuracy = 100 * np.mean(logits.argmax(axis=-1) == test_y)
    return accuracy, calibration_error(probabilities)


results = {}


def record(name, train):
    """Trains from each seed; `train` returns one model, or several of a kind.

    Of several the mean is kept, so the spread is that of the seeds.
    """
    scores = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        scores.append(np.mean([judge(model) for model in train()], axis=0))
    results[name] = np.array(scores)
    print_scores(name, results[name])


def print_scores(name, scores):
    spread = scores.std(axis=0, ddof=min(1, len(scores) - 1))
    columns = [
        f"{m:5.1f} ± {s:.1f}" for m, s in zip(scores.mean(axis=0), spread)
    ]
    print(f"{name:26}" + "   ".join(columns))


"""
The accuracy varies with the random start, by more than some methods differ. So
we train three students from each of three seeds. The same three, from the same
random weights, will then train together, and we can compare.
"""


def make_three():
    return {
        key: make_student(f"{key}_student")
        for key in ("first", "second", "third")
    }


def alone(epochs):
    students = make_three()
    for student in students.values():
        fit(student, epochs=epochs)
    return students.values()


print(f"{'':26} accuracy (%)  calibration error (%)")
record("alone", lambda: alone(EPOCHS))
record("alone, 10 epochs", lambda: alone(10))

"""
The student is right in 67 % of the cases, and far too confident: by 17 points.
A third of the epochs cures much of that, and costs half a point of accuracy. So
that is what to compare with: it needs no method at all.

## Students that learn from one another

In **deep mutual learning** (DML) several students, the *peers*, train at the
same time. Each learns from the labels, and from the predictions of all others
for the same batch. They started from different weights, so they make different
errors, and the soft targets of the others show which classes are similar.

`students.peers` makes one model of them, whose output is a dict. Nothing is
copied: each peer stays the model that it was, and can be saved. The peers need
not have the same size. `schemes.mutual_learning` returns the transfers, one for
each direction.
"""


def mutual():
    students = make_three()
    peers = kd.students.peers(students)
    fit(kd.SelfDistiller(peers, kd.schemes.mutual_learning(peers)))
    return students.values()


record("mutual", mutual)
gains = results["mutual"] - results["alone"]
print_scores("gain, same first weights", gains)

"""
Learning together makes these students hardly more accurate: 0.3 ± 0.6 points is
nothing that one could rely on. But their calibration error is 11 points
smaller.

What if one peer is much worse than the others? Its predictions are then of
little use to them. **KDCL** makes one target of all predictions that is never
worse than the best of them: for each wrong class it takes the prediction of the
peer that gives it the lowest score.
"""


def collaborative():
    students = make_three()
    peers = kd.students.peers(students)
    fit(kd.SelfDistiller(peers, kd.schemes.collaborative_learning(peers)))
    return students.values()


record("collaborative", collaborative)

"""
Three peers cost three times as much as one. In **ONE** all share the first
layers (the *trunk*), and only the last layers are separate *branches*. A gate
learns a weight for each branch. The weighted sum of the branches is the teacher
of all branches, and each branch with the trunk is a model of the ordinary size.
"""


def native_ensemble():
    trunk = keras.Sequential(
        [keras.Input((2000,)), *make_student().layers[:2]], name="trunk"
    )
    branches = {
        key: keras.Sequential(
            [keras.Input((64,)), *make_student().layers[2:]], name=key
        )
        for key in ("first", "second", "third")
    }
    student = kd.students.gated_branches(trunk, branches)
    fit(kd.SelfDistiller(student, kd.schemes.native_ensemble(student)))
    return [keras.Sequential([trunk, each]) for each in branches.values()]


record("native ensemble, a branch", native_ensemble)

"""
## First layers that learn from the last

In **Be Your Own Teacher** (BYOT) the model gets classifiers at earlier layers,
its *exits*. They are distilled from the model's own output. The exits are
removed in the end, but their gradients reach the first layers by a shorter
path. `student.model` is the plain model, without its exits.
"""


def own_teacher():
    model = make_student()
    student = kd.students.Exits(model, {"stage1": layers.Dense(10)})
    transfers = kd.schemes.be_your_own_teacher(student)
    fit(kd.SelfDistiller(student, transfers, hard_weight=0.7))
    return [model]


record("own teacher, by exits", own_teacher)

"""
## Previous-epoch predictions

**Progressive self-distillation** (PS-KD) stores the model's prediction for each
sample in the previous epoch, and mixes it with the label. In the beginning the
target is the label alone, in the end the prediction has a weight of 80 %.

The loss needs to know which sample is which. So the labels come in a dict with
the sample indices, and the two weights are schedules that add up to 1.
"""


def past_predictions():
    steps = EPOCHS * -(-LABELED // BATCH_SIZE)
    model = make_student()
    transfer = kd.Transfer(
        kd.losses.PastPredictions(LABELED, num_classes=10),
        weight=kd.schedules.Annealing(0.0, 0.8, steps=steps),
    )
    hard_weight = kd.schedules.Annealing(1.0, 0.2, steps=steps)
    distiller = kd.SelfDistiller(model, [transfer], hard_weight=hard_weight)
    sample_index = np.arange(LABELED)
    fit(distiller, y={"labels": known_y, "sample_index": sample_index})
    return [model]


record("past predictions", past_predictions)

"""
## A moving average of the weights

The last method (*Mean Teacher*) uses a teacher again, but one that costs no
training: a **moving average** of the student's own weights. Its predictions
change less from step to step than the student's. The student, with dropout,
learns to predict what the average predicts without dropout. That needs no
labels, so the 3,400 other snippets can be used, too. They have the label -1,
which the loss ignores. As they are many, each labeled snippet comes five times.

In the first steps the teacher is no better than chance, so its weight starts at
0 and grows.
"""


def moving_average(x, y, epochs):
    model = make_student()
    teacher = kd.teachers.MovingAverage(model, decay=0.99)
    steps = epochs * -(-len(x) // BATCH_SIZE)
    transfer = kd.Transfer(
        kd.losses.SoftTargets(temperature=1.0),
        weight=kd.schedules.Annealing(0.0, 1.0, steps=steps // 2),
    )
    fit(kd.Distiller(teacher, model, [transfer], hard_weight=1.0), x, y, epochs)
    return [teacher.model]


record("moving average", lambda: moving_average(known_x, known_y, EPOCHS))

all_x = np.concatenate([np.tile(known_x, (5, 1)), other_x])
all_y = np.concatenate([np.tile(known_y, 5), np.full(len(other_x), -1)])
record("moving average, 3,400 more", lambda: moving_average(all_x, all_y, 8))

"""
## What we found
"""

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
titles = "accuracy (%)", "calibration error (%)"
for column, (axis, title) in enumerate(zip(axes, titles)):
    for row, scores in enumerate(results.values()):
        axis.plot(scores[:, column], [row] * len(scores), "C0o", alpha=0.5)
        axis.plot(scores[:, column].mean(), row, "C0|", ms=18, mew=2)
    axis.set_xlabel(title)
    axis.grid(axis="x", alpha=0.3)
axes[0].set_yticks(range(len(results)), list(results))
axes[0].invert_yaxis()
figure.tight_layout()
plt.savefig("self_distillation.png", dpi=120)
plt.show()

"""
*Figure: Accuracy (more is better) and calibration error (less is better): a dot
for each seed, a bar for the mean.*

- **Accuracy hardly changes.** Collaborative learning gains a point. The other
  differences are not larger than the spread of the seeds.
- **Calibration gets much better** by mutual learning, branches, past
  predictions and the moving average: an error of 3 to 6 points in place of 17.
  Soft targets keep the student from being sure of everything. The moving
  average is even better than the student of 10 epochs, in both columns.
- **It gets worse** by collaborative learning and by exits.
- **More snippets without labels do harm**: three points. In the paper, the two
  models get images that are augmented differently. Here only dropout differs.

So none of these always helps. (The settings are the papers', as the schemes
have them by default.) They are cheap to try: compare them on your data with the
student alone, from more than one seed. If there is a trained teacher, use it:
in [Is distillation worth it?](is_it_worth_it.ipynb) one gained 23 points.

Before: [Features and attention](features_and_attention.ipynb). Next:
[Ensembles and heterogeneous teachers](teacher_ensembles.ipynb). A student can
also be distilled from an earlier student of the same architecture, generation
after generation: `schemes.born_again`, in [Teacher
assistants](teacher_assistants.ipynb).
"""
