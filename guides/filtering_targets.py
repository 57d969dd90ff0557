"""
Title: Distilling from a noisy teacher
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/30
Description: Filter or refine the predictions of a teacher that is partly wrong.
Accelerator: None
Needs: pip install ".[jax,tensorflow,examples]"
"""

"""
## Introduction

A student learns to predict what its teacher predicts. Where the teacher is
wrong, the student learns the error.

**Target filtering** leaves out predictions that are probably wrong.
**Target refinement** corrects them. (Both are also called *knowledge
purification*.) In `keras_kd` this is done by *rules*: small objects that drop a
sample, change its weight, or change the teacher's prediction. A transfer, which
is one term of the distillation loss, has a list of them:

```python
kd.Transfer(kd.losses.SoftTargets(), rules=[kd.rules.DropWrong()])
```

In this guide you will

- audit a teacher: which samples would a rule touch, and of which class;
- compare rules with plain distillation, for two kinds of noisy teachers;
- check how much of the gain is left with other settings;
- see a case where rules do harm.

Read [Getting started](getting_started.ipynb) first.
"""

from typing import NamedTuple

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_datasets as tfds
from keras import layers
from keras import ops

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and two ways of each comparison.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)
EPOCHS = 20

"""
## The data: two sets of labels

2,000 images of MNIST were labeled by two people, independently. Each gave a
wrong digit to three images in ten. Somebody trained a large network on the
*first* set of labels, for too long. We get this network, and the *second* set
of labels.

We know the true labels as well. No student is trained on them. They explain the
results, and 2,000 other images with true labels are for the test.
"""


def mnist(split):
    data = tfds.load("mnist", split=split, batch_size=-1, as_supervised=True)
    images, labels = tfds.as_numpy(data)
    pixels = images.reshape((len(images), 784))
    return (pixels / 255.0).astype("float32"), labels.astype("int32")


images, truth = mnist("train[:10000]")
valid_images, valid_labels = mnist("train[10000:11000]")
test_images, test_labels = mnist("test[:2000]")


class Data(NamedTuple):
    images: np.ndarray
    truth: np.ndarray
    theirs: np.ndarray  # The labels of the teacher.
    ours: np.ndarray


def mislabeled(labels, share, random):
    wrong = random.random(len(labels)) < share
    shift = random.integers(1, 10, len(labels))
    return np.where(wrong, (labels + shift) % 10, labels).astype("int32")


def labeled_twice(seed):
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(images))[:2000]
    theirs, ours = (mislabeled(truth[chosen], 0.3, random) for _ in range(2))
    return Data(images[chosen], truth[chosen], theirs, ours)


data = labeled_twice(0)
print(f"their labels are right: {np.mean(data.theirs == data.truth):.1%}")
print(f"our labels are right:   {np.mean(data.ours == data.truth):.1%}")

"""
## The teacher

Two layers of 256 units and 30 epochs are enough to memorize wrong labels.
"""


def network(*units):
    hidden = [layers.Dense(width, activation="relu") for width in units]
    return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10)])


def train(model, images, labels, epochs, learning_rate, **arguments):
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        images, labels, batch_size=100, epochs=epochs, verbose=0, **arguments
    )
    return model


def train_teacher(seed, images, labels, epochs):
    keras.utils.set_random_seed(seed)
    return train(network(256, 256), images, labels, epochs, 1e-3)


def logits_of(model, images):
    return ops.convert_to_numpy(model(images))


def accuracy(model, images=test_images, labels=test_labels):
    return 100 * np.mean(np.argmax(logits_of(model, images), -1) == labels)


teacher = train_teacher(0, data.images, data.theirs, 30)
for name, labels in (("its labels", data.theirs), ("truth", data.truth)):
    print(f"teacher and {name}: {accuracy(teacher, data.images, labels):.1f} %")
print(f"teacher on the test images: {accuracy(teacher):.1f} %")

"""
It repeats its wrong labels, three images in ten.

## The audit comes first

`kd.rules.audit` applies rules to the teacher's predictions for all of the data.
It trains nothing, and takes no time. We try one rule after the other.
"""

teacher_logits = logits_of(teacher, data.images)
for rule in (
    kd.rules.DropWrong(),
    kd.rules.DropUnsure(below=0.8),
    kd.rules.LiftTrueClass(margin=2.0),
    kd.rules.ClipTail(below=0.01),
):
    print(kd.rules.audit([rule], teacher_logits, data.ours), "\n")

"""
- **samples** and **share**: how many samples the rule would touch. One that
  touches almost nothing has no effect. If it touches half, think before you use
  it.
- **by class**: how many of each label, from 0 to 9. If a rule drops nearly all
  samples of one class, the student hardly learns that class.

`DropWrong` drops every sample for which the teacher does not predict our label:
half of them, and about the same number of each class. Is that too many? The
audit also has their indices, and here we know the true labels:
"""

touched = kd.rules.audit([kd.rules.DropWrong()], teacher_logits, data.ours)[0]
kept = np.setdiff1d(np.arange(len(teacher_logits)), touched.samples)
predicted = np.argmax(teacher_logits, axis=-1)
right = predicted == data.truth
print(f"right predictions, of all samples:  {np.mean(right):.1%}")
print(f"right predictions, of those kept:   {np.mean(right[kept]):.1%}")

figure, axes = plt.subplots(1, 8, figsize=(11, 2.1), layout="constrained")
for axis, sample in zip(axes, touched.samples):
    axis.imshow(data.images[sample].reshape(28, 28), cmap="gray_r")
    title = f"teacher {predicted[sample]}\nlabel {data.ours[sample]}"
    axis.set_title(title, fontsize=9)
    axis.axis("off")
plt.savefig("filtering_targets_dropped.png", dpi=120)
plt.show()

"""
*Figure: Samples that DropWrong drops.*

This is why it works. The errors of the teacher and those of our labels are
independent, so both seldom make the *same* error. Where they agree, they are
nearly always right.

With your own data you have no true labels. So look at a few dozen of these
samples. In which is the teacher wrong, in which the label?

## The rules

| rule               | what it does                                            |
|--------------------|---------------------------------------------------------|
| `DropWrong`        | drops samples whose predicted class is not the label    |
| `DropUnsure`       | drops samples of low confidence; needs no label         |
| `DropUnusual`      | compares with the usual confidence for that class       |
| `ProbabilityShift` | swaps the label's and the predicted class's probability |
| `LiftTrueClass`    | raises the label's logit to a margin above all others   |
| `ClipTail`         | sets small probabilities to 0                           |
| `WeighByAgreement` | weighs samples by how far several teachers agree        |

Several rules are applied in order: `rules=[DropWrong(), DropUnsure(0.8)]`.

## Distil with rules

The student is small: one layer of 32 units. The temperature is 1, as the small
probabilities of a teacher that has memorized its labels are of little use. A
rule changes the soft targets only. The hard loss still uses every label, also
the wrong ones, so its weight stays at 0.1, the default.

Each seed gives other images, labels, a teacher and initial weights, the same
for all ways to train.
"""


def train_student(data, teacher, rules, hard_weight=0.1, **arguments):
    model = student = network(32)
    if rules is not None:
        soft_targets = kd.losses.SoftTargets(temperature=1.0)
        transfer = kd.Transfer(soft_targets, rules=rules)
        model = kd.Distiller(
            teacher, student, transfer, hard_weight=hard_weight
        )
    train(model, data.images, data.ours, EPOCHS, 3e-3, **arguments)
    return student


WAYS = {
    "labels alone": None,
    "plain": [],
    "DropWrong": [kd.rules.DropWrong()],
    "DropUnsure(0.8)": [kd.rules.DropUnsure(0.8)],
    "LiftTrueClass(2)": [kd.rules.LiftTrueClass(2.0)],
}


def compare(draw, make_teacher, ways=WAYS, **arguments):
    ways = dict(list(ways.items())[: 3 if TRIAL else None])
    results = {name: [] for name in ["teacher", *ways]}
    for seed in SEEDS:
        data = draw(seed)
        teacher = make_teacher(seed, data)
        results["teacher"].append(accuracy(teacher))
        for name, rules in ways.items():
            keras.utils.set_random_seed(seed)
            student = train_student(data, teacher, rules, **arguments)
            results[name].append(accuracy(student))
    for name, scores in results.items():
        spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
        print(f"{name:18}{np.mean(scores):5.1f} ± {spread:.1f} %")
    return results


def memorizing_teacher(seed, data):
    return train_teacher(seed, data.images, data.theirs, 30)


memorized = compare(labeled_twice, memorizing_teacher)

"""
The student is better than its teacher, as it is too small to memorize all of
the errors. But a teacher hardly helps it. `DropWrong` gains more than six
points over plain distillation, many times the spread.

The other two rules gain little or nothing. This teacher is sure of its errors,
so `DropUnsure` touches 2 % of the samples. And `LiftTrueClass` puts our errors
in place of the teacher's: the label that it lifts is wrong in three of ten.

## A teacher that confuses classes

Now another teacher. In its labels, six out of ten nines are labeled as fours,
and likewise sevens as ones, eights as threes and sixes as zeros. The rest is
right. Our own labels are better than before: one in five is wrong.
"""

SIMILAR = {9: 4, 7: 1, 8: 3, 6: 0}


def labeled_confusingly(seed):
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(images))[:2000]
    labels = truth[chosen]
    similar = np.array([SIMILAR.get(label, label) for label in labels])
    swap = random.random(len(labels)) < 0.6
    theirs = np.where(swap, similar, labels).astype("int32")
    ours = mislabeled(labels, 0.2, random)
    return Data(images[chosen], labels, theirs, ours)


def confused_teacher(seed, data):
    return train_teacher(seed, data.images, data.theirs, 10)


data = labeled_confusingly(0)
teacher_logits = logits_of(confused_teacher(0, data), data.images)
print(kd.rules.audit([kd.rules.DropWrong()], teacher_logits, data.ours), "\n")
confused = compare(labeled_confusingly, confused_teacher)

"""
Here the numbers by class matter: `DropWrong` would drop 98 to 189 samples of
each of 6, 7, 8 and 9, and 29 to 49 of each other class. So the audit shows,
without true labels, which classes this teacher confuses.

Such errors are worse than random ones: plain distillation is nine points below
the labels alone. With `DropWrong` or `LiftTrueClass` the student is about as
good as without a teacher. The rules repair the harm, and gain no more.

## Is it only a matter of settings?

Suppose that 1,000 images with right labels are there to choose settings by.
Then training can stop before the student has learned the errors, and the labels
can have a larger weight: here a hard weight of 1 in place of 0.1.
"""

stop_early = keras.callbacks.EarlyStopping(
    "val_accuracy", patience=6, restore_best_weights=True
)
tuned = {
    "ways": {
        name: WAYS[name] for name in ("labels alone", "plain", "DropWrong")
    },
    "hard_weight": 1.0,
    "validation_data": (valid_images, valid_labels),
    "callbacks": [stop_early],
}
print("memorized labels")
compare(labeled_twice, memorizing_teacher, **tuned)
print("\nconfused classes")
compare(labeled_confusingly, confused_teacher, **tuned)

"""
To a large part it is. For the memorized labels, plain distillation that stops
in time is as good as the rule. For the confused classes the rule is still two
points better, and now that student is a little better than the labels alone.

A rule is the safer choice without a clean validation set: for memorized labels
`DropWrong` reached the same 87.1 % with the first settings.

## A good teacher and bad labels

This teacher was trained with right labels. Ours are the bad ones of the first
comparison.
"""


def good_teacher(seed, data):
    return train_teacher(seed, data.images, data.truth, 10)


compare(labeled_twice, good_teacher)

"""
Plain distillation is best here, with `DropUnsure`, which touches little.
`DropWrong` costs about a point, as fewer samples are left. `LiftTrueClass`
costs nine: it corrects a good teacher by bad labels. Nor can these rules help
where the teacher has memorized *our* labels, errors included.
"""

figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
axes[0].set_title("memorized labels")
axes[1].set_title("confused classes")
for axis, results in zip(axes, (memorized, confused)):
    for row, scores in enumerate(results.values()):
        axis.plot(scores, [row] * len(scores), "o", alpha=0.6)
        axis.plot(np.mean(scores), row, "k|", markersize=18)
    axis.set_yticks(range(len(results)), list(results))
    axis.invert_yaxis()
    axis.set_xlabel("test accuracy (%)")
plt.savefig("filtering_targets.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy: a dot for each seed, a bar for the mean.*

## When does it pay?

- **Audit before you train.** If a rule touches one class much more than the
  others, the teacher confuses that class.
- **Compare a teacher with labels that it has not seen**: labels from another
  source, or the predictions of another teacher (`WeighByAgreement`).
- **Random errors: drop.** Where teacher and label agree, they are nearly always
  right.
- **Errors of whole classes: lift**, or drop with a larger `hard_weight`, so
  that the student learns these classes from the labels.
- **A good teacher: use no rule**, above all if your labels are worse.
- **Try simpler settings, too**: with clean validation labels, stop early.

Next: [Ensembles and heterogeneous teachers](teacher_ensembles.ipynb).
"""
