"""
Title: Is distillation worth it?
Author: keras_kd developers
Date created: 2026/11/30
Last modified: 2026/11/30
Description: Compare the teacher, the student alone and distilled, and read it.
Accelerator: None
Needs: pip install ".[jax,quickstart]"
"""

"""
## Introduction

A distilled student has an accuracy. That number alone says little: perhaps the
student would have been as good without its teacher, or with a minute more of
training, or it was lucky with its first weights. So we need the student *alone*
beside it, trained for as long, and both from several seeds.

`kd.compare` does that in one call. In this guide you will

- compare where distillation pays, where it makes no difference, and where it
  *hurts*;
- read paired differences, and what their interval means;
- give the student alone a fair chance;
- keep finished runs in a folder, and send a report to someone.

You should know [Getting started](getting_started.ipynb).
"""

import pathlib
import re
import textwrap

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.feature_extraction.text import CountVectorizer

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one
# seed.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 5)

"""
## The task: where does this code come from?

We need text, and every Python has some: the source of its standard library. We
take ten of its packages and modules, cut them into snippets of three lines, and
let a model find out which of the ten a snippet is from.
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
texts, labels = [texts[n] for n in order], np.array(labels)[order]

for number in (0, 4):
    print(f"# {NAMES[labels[number]]}\n{texts[number]}\n")

"""
4,000 of the 6,000 snippets are for training, 2,000 for the test. A model gets
which of the 2,000 most frequent words and signs are in a snippet, in no order.
"""

vectorizer = CountVectorizer(
    max_features=2000, binary=True, token_pattern=r"[A-Za-z]+|[^\sA-Za-z]"
)
vectorizer.fit(texts[:4000])
x = vectorizer.transform(texts).toarray().astype("float32")
x, test_data = x[:4000], (x[4000:], labels[4000:])
y = labels[:4000]

"""
Someone trained a network with 256 hidden units on all 4,000 labels, and gave it
to us. Our student is to have 16.

Each run needs an optimizer of its own: one that has trained before would start
with the state of that run. So the arguments of `compile` come from a function.
A label of -1 means that it is unknown.
"""


def make_network(units):
    return keras.Sequential(
        [
            keras.Input((2000,)),
            layers.Dense(units, activation="relu"),
            layers.Dropout(0.5 if units > 100 else 0.0),
            layers.Dense(10),
        ]
    )


def make_student():
    return make_network(16)


def settings():
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    return {"optimizer": keras.optimizers.Adam(2e-3), "loss": cross_entropy}


def make_teacher(x, y, epochs):
    keras.utils.set_random_seed(0)
    teacher = make_network(256)
    teacher.compile(**settings())
    teacher.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return teacher


teacher = make_teacher(x, y, epochs=15)

"""
## Few labels, many inputs

First, we have only 400 of the labels, others with each seed. The student alone
can use these. The distilled student uses all 4,000 snippets, as the teacher
predicts each of them. A function of the seed gives the data of a run, and a
`kd.Way` holds what is different for a row of the comparison.

Both make 1,000 steps. With a seed, both start from the same weights.
"""


def partly_labeled(seed):
    known = np.random.default_rng(seed).permutation(4000)[:400]
    partly = np.full_like(y, -1)
    partly[known] = y[known]
    return x, partly


def labeled(seed):
    known = partly_labeled(seed)[1] >= 0
    return x[known], y[known]


def compare(teacher, data, **arguments):
    return kd.compare(
        teacher,
        make_student,
        data,
        test_data,
        compile=settings,
        batch_size=64,
        verbose=0,
        **{"seeds": SEEDS, **arguments},
    )


def compare_few_labels():
    alone = kd.Way(train_data=labeled)
    return compare(
        teacher,
        partly_labeled,
        ways={"student alone": alone},
        steps=1000,
        folder="few_labels",
    )


few_labels = compare_few_labels()
print(few_labels)

"""
At the end, the report gives the result in sentences. Above them are four
tables:

- **Quality**: the metric, the paired difference to the student alone, agreement
  with the teacher, and calibration error (confidence against accuracy).
- **Cost of the model**: parameters, bytes, FLOPs, and milliseconds on your
  machine. FLOPs are counted by layers, and are the same on each backend.
- **Cost of training**: steps, seconds, CPU seconds; compiling is apart.
- **Accuracy by class**: a student may gain in the mean and lose in a class.

Times are of this machine, with other programs running: take them as a rough
estimate.

## Reading a paired difference

Here is what each seed gave.
"""

alone = 100 * few_labels.values("student alone")
distilled = 100 * few_labels.values("student distilled")
print("seed  alone  distilled  difference")
for seed, one, two in zip(SEEDS, alone, distilled):
    print(f"{seed:4}{one:7.1f}{two:11.1f}{two - one:+12.1f}")

found = few_labels.difference("student distilled", "student alone")
low, high = 100 * found.low, 100 * found.high
print(
    f"{100 * found.mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
)
print(f"beyond the spread: {found.beyond}")

"""
With the same seed, both ways have the same labels and the same first weights.
What luck both share cancels out in the difference of a row. So we look at the
mean of the differences, and at how much *they* vary:

```
mean ± t * standard deviation of the differences / sqrt(number of seeds)
```

That is the 95 % interval. The factor `t` is Student's: 12.7 for two seeds, 4.3
for three, 2.8 for five. Two seeds are rarely enough. If 0 is outside of the
interval, the report calls the difference *beyond the spread* and marks it with
a star. Here 0 is far away: the teacher's predictions for 3,600 snippets without
a label replace most of the missing labels.

## All labels

Now we have all 4,000 labels, too. Both ways train on the same data, for 1,500
steps.

But the teacher runs in each step of distillation, which takes time. Perhaps the
student alone would use that time better? So a third way is the student alone
for twice as many steps.
"""

all_labels = compare(
    teacher,
    (x, y),
    steps=1500,
    ways={"alone, 3,000 steps": kd.Way(steps=3000)},
)


def print_quality(report):
    """The first table of the report, and its first sentence."""
    print(str(report).split("\n\n")[0])
    print(textwrap.fill(report.sentences()[0], 80))


print_quality(all_labels)

"""
Distillation makes no clear difference here: 0.4 points more, but 0 is in the
interval. The student alone comes within half a point of the teacher, so there
is little left to learn from it. Twice as many steps don't help the student
alone: it loses 0.9 points, and its confidence is further off (calibration).

That is a result, too. It saves you a teacher, and its pass in each step.

## A teacher that knows less

Teachers get old. Suppose that ours was trained when there were only 400 labels,
and that we have all 4,000. A further way gives both losses the same weight.
"""

old_teacher = make_teacher(x[:400], y[:400], epochs=60)
half = kd.Way(
    lambda teacher, student: kd.Distiller(
        teacher,
        student,
        kd.Transfer(kd.losses.SoftTargets(4.0), weight=0.5),
        hard_weight=0.5,
    )
)
from_old = compare(
    old_teacher,
    (x, y),
    steps=1500,
    seeds=SEEDS[:3],
    ways={"half the weight": half},
)
print_quality(from_old)

"""
This *hurts*. The old teacher is right on 63.4 % of the test, and the student
follows it: they agree on 94 %. It ends 17 points below the student alone, and
nine below with half the weight. A large network is not a good teacher for being
large. Compare it with the student *alone* before you distil.

(Three seeds are enough here, as the difference is so large.)

## Finished runs are kept

Our first comparison has a `folder`. Each finished run is there in whole: what
was measured of it, and its weights. If the program is interrupted, run it
again, and only what is missing is trained. Once all is there, nothing is:
"""

again = compare_few_labels()
print(again.values("student distilled") == distilled / 100)

"""
More seeds or ways may be added. Other data, models or settings are refused:
their runs could not be compared with those in the folder.

## Send it to someone

`to_html` writes one file without anything to load, which can be read on a
phone. `to_json` gives all numbers as text, and `from_json` reads it. `plot`
draws one report; here we draw all three.
"""

few_labels.to_html("few_labels.html")

reports = {
    "few labels": few_labels,
    "all labels": all_labels,
    "old teacher": from_old,
}
figure, axis = plt.subplots(figsize=(8, 2.6))
for row, report in enumerate(reports.values()):
    for way, color in (("student alone", "C0"), ("student distilled", "C1")):
        scores = 100 * report.values(way)
        axis.plot(scores, [row] * len(scores), "o", color=color, alpha=0.5)
        axis.plot(scores.mean(), row, "|", color=color, ms=22, mew=2)
    teacher_score = 100 * report.values("teacher").mean()
    axis.plot(teacher_score, row, "kx")
axis.plot([], "C0o", label="student alone")
axis.plot([], "C1o", label="student distilled")
axis.plot([], "kx", label="teacher")
axis.set_yticks(range(len(reports)), list(reports))
axis.set_ylim(2.5, -0.5)
axis.set_xlabel("test accuracy (%): a dot for each seed, a bar for the mean")
axis.legend()
figure.tight_layout()
plt.savefig("is_it_worth_it.png", dpi=120)
plt.show()

"""
*Figure: Accuracy alone and distilled in the three settings.*

## What the report can't show

- **Other test data.** The interval is about other seeds. With 2,000 snippets,
  an accuracy of 83 % has a standard error of sqrt(0.83 * 0.17 / 2000) = 0.8
  points of its own, which all ways share in part.
- **Other settings.** Learning rate and budget are the same for all ways, unless
  a `Way` has its own. If you tune the distilled student, tune the student alone
  with as much patience.
- **Many ways.** Of twenty ways that do nothing, one is beyond the spread by
  chance. Choose a way on validation data, then compare that one on the test.

## Conclusion

Distillation pays most where the teacher has seen labels that the student has
not. With the same labels it made no clear difference here, and a teacher that
knows less does harm. You only know after training the student alone, as long
and as carefully, from several seeds.

Before: [Getting started](getting_started.ipynb). Next: [Caching teacher
predictions](cached_predictions.ipynb). The API: `kd.compare`
(also with a teacher trained for each seed, your own metric, regression, equal
time in place of equal steps) and `kd.ComparisonReport`.
"""
