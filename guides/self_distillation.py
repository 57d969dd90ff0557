"""
Title: Self-distillation
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/21
Description: Students that learn from each other, or from their own predictions.
Accelerator: None
"""

"""
## Introduction

Distillation needs a teacher. What if there is none, and you don't want to train
a large model that is used for nothing else?

Much of what a teacher gives can be had without one. A soft target contains more
than a label: how certain the class of this image is, and which other classes
are similar. Such targets can come

- from **other students** that train at the same time;
- from the **last layers** of the student itself, for its first layers;
- from the student's **previous-epoch predictions**;
- from a moving **average** of the student's weights.

In this guide you will try all four on the same data, with the same small
network. In all of them nothing is trained beforehand. You write

```python
kd.SelfDistiller(student, transfers)
```

in place of `kd.Distiller(teacher, student, transfers)`: the taps on both sides
of a transfer are places in the student.

```shell
pip install ".[jax,examples]"  # in a clone of the repository
```
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd

# One seed in a trial run, under the environment variable KERAS_MAX_EPOCHS=1.
SEEDS = range(1 if keras.config.max_epochs() == 1 else 5)
EPOCHS = 60
BATCH = 32

"""
## The data

scikit-learn ships 1,797 scanned digits of 8x8 pixels. We keep 797 for the test.
Of the other 1,000, we use the labels of 200: enough to learn from, and few
enough to leave room for improvement. The 800 without a label are used by the
last method only.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))
labels = labels.astype("int32")

train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=797, stratify=labels, random_state=0
)
known_images, other_images, known_labels, _ = train_test_split(
    train_images,
    train_labels,
    train_size=200,
    stratify=train_labels,
    random_state=0,
)

"""
## The student, alone

A small convolutional network in two stages. We name the layers, as taps need
their names.
"""


def make_student(name="student", width=16):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(
                width, 3, padding="same", activation="relu", name="stage1"
            ),
            layers.MaxPooling2D(),
            layers.Conv2D(
                2 * width, 3, padding="same", activation="relu", name="stage2"
            ),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, name="logits"),
        ],
        name=name,
    )


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model, x=known_images, y=known_labels, loss=None, epochs=EPOCHS):
    model.compile(keras.optimizers.Adam(2e-3), loss or classification_loss())
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)


"""
We measure two things. *Accuracy* is how often a model is right. *Calibration
error* is how far its confidence is from that: a model with 99 % confidence in
all its predictions that is right in 93 % of the cases has an error of six
points. Models that are trained on labels alone are often too confident, as a
label does not show that an image is hard to read.
"""


def calibration_error(logits, bins=15):
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == test_labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(right[place == b].mean() - confidence[place == b].mean())
        * np.mean(place == b)
        for b in range(bins)
        if np.any(place == b)
    ]
    return 100 * sum(gaps)


def judge(model):
    logits = model.predict(test_images, batch_size=797, verbose=0)
    accuracy = 100 * np.mean(logits.argmax(axis=-1) == test_labels)
    return accuracy, calibration_error(logits)


results = {}


def record(name, train):
    """Trains from each seed; `train` returns one model, or several of a kind.

    Of several the mean is kept, so the spread is that of the seeds.
    """
    scores = results[name] = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        scores.append(np.mean([judge(model) for model in train()], axis=0))
    print(f"{name}: {text_of(scores)}")


def text_of(scores):
    columns = np.array(scores).T
    spread = [np.std(c, ddof=1) if len(c) > 1 else 0.0 for c in columns]
    means = columns.mean(axis=1)
    return " | ".join(f"{m:.1f} +- {s:.1f}" for m, s in zip(means, spread))


"""
The accuracy of small networks varies with the random start, by more than some
methods differ. So we train three of them from each of five seeds. The same
three, from the same random weights, will then train together, and we can
compare.
"""


def make_three():
    return {
        key: make_student(f"{key}_student")
        for key in ("first", "second", "third")
    }


def alone():
    students = make_three()
    for student in students.values():
        fit(student)
    return students.values()


record("alone", alone)

"""
## Students that learn from one another

In **deep mutual learning** (DML) several students, the *peers*, train at the
same time. Each learns from the labels, and from the predictions of all others
for the same batch. They started from different weights, so they make different
errors, and the soft targets of the others show which classes are similar.

`students.peers` makes one model of them, whose output is a dict. Nothing is
copied: each peer stays the model that it was. `schemes.mutual_learning` returns
the transfers, one for each direction.
"""


def mutual():
    students = make_three()
    peers = kd.students.peers(students)
    fit(kd.SelfDistiller(peers, kd.schemes.mutual_learning(peers)))
    return students.values()


record("mutual", mutual)

gains = np.array(results["mutual"]) - np.array(results["alone"])
print(f"gain, from the same random weights: {text_of(gains)}")

"""
One `fit` trains three models; each can be saved with `student.save`. In the
logs of a short run each peer has a loss and metrics of its own, and each
direction has its loss. The peers need not have the same size.
"""

peers = kd.students.peers(
    {"small": make_student("small", 8), "large": make_student("large", 32)}
)
distiller = kd.SelfDistiller(peers, kd.schemes.mutual_learning(peers))
distiller.compile("adam", classification_loss(), metrics=["accuracy"])
history = distiller.fit(known_images, known_labels, epochs=2, verbose=0)
for key, values in sorted(history.history.items()):
    print(f"{key:24}{values[-1]:.3f}")

"""
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
        [keras.Input((8, 8, 1)), *make_student().layers[:2]], name="trunk"
    )
    branches = {
        key: keras.Sequential(
            [keras.Input((4, 4, 16)), *make_student().layers[2:]], name=key
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
path, and so these learn useful features sooner.

A tap gives the place of an exit, so this works with any model. `student.model`
is the plain model, without its exits. With `hint` the features at an exit also
learn from those of a later layer. Its weight is the paper's, 0.03; with so
small a network that is too little to matter.
"""


def own_teacher():
    model = make_student()
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(10)])
    student = kd.students.Exits(model, {"stage1": head})
    transfers = kd.schemes.be_your_own_teacher(student, hint="stage2")
    fit(kd.SelfDistiller(student, transfers, hard_weight=0.7))
    return [model]


record("own teacher, by exits", own_teacher)

"""
## Previous-epoch predictions

**Progressive self-distillation** (PS-KD) stores the model's prediction for each
image in the previous epoch, and mixes it with the label. In the beginning the
target is the label alone, in the end the prediction has a weight of 80 %.

The loss needs to know which image is which. So the labels come in a dict with
the sample index of each image, and the two weights are schedules that add up to
1.
"""


def past_predictions():
    steps = EPOCHS * -(-len(known_images) // BATCH)
    model = make_student()
    transfer = kd.Transfer(
        kd.losses.PastPredictions(len(known_images), num_classes=10),
        weight=kd.schedules.Annealing(0.0, 0.8, steps=steps),
    )
    distiller = kd.SelfDistiller(
        model,
        [transfer],
        hard_weight=kd.schedules.Annealing(1.0, 0.2, steps=steps),
    )
    sample_index = np.arange(len(known_images))
    fit(distiller, y={"labels": known_labels, "sample_index": sample_index})
    return [model]


record("past predictions", past_predictions)

"""
## A moving average of the weights

The last method uses a teacher again, but one that costs no training: a **moving
average** of the student's own weights. Its predictions are a little better than
the student's, and change less from step to step. Now the 800 images without
labels can be used: the student, with dropout, learns to predict what the
average predicts without dropout. That is *Mean Teacher*.

The images without a label have the label -1, which the loss ignores. In the
first steps the teacher is no better than chance, so its weight starts at 0 and
grows.
"""


def moving_average(images, labels, epochs):
    model = make_student()
    teacher = kd.teachers.MovingAverage(model, decay=0.99)
    steps = epochs * -(-len(images) // BATCH)
    transfer = kd.Transfer(
        kd.losses.SoftTargets(temperature=1.0),
        weight=kd.schedules.Annealing(0.0, 1.0, steps=steps // 2),
    )
    distiller = kd.Distiller(teacher, model, [transfer], hard_weight=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    fit(distiller, images, labels, loss, epochs)
    return [teacher.model]


record(
    "moving average",
    lambda: moving_average(known_images, known_labels, EPOCHS),
)

all_images = np.concatenate([known_images, other_images])
all_labels = np.concatenate([known_labels, -np.ones(800, "int32")])
record(
    "moving average, 800 more",
    lambda: moving_average(all_images, all_labels, EPOCHS),
)

"""
## What we found

Test accuracy and calibration error in percent, mean and standard deviation over
five seeds, on JAX. Of peers and branches each seed's number is the mean of
three. No setting was tuned: they are the papers', as the schemes have them by
default.

|                           | accuracy    | calibration error |
|---------------------------|-------------|-------------------|
| alone                     | 93.2 +- 0.3 | 2.1 +- 0.3        |
| mutual                    | 93.7 +- 0.4 | 1.9 +- 0.2        |
| collaborative             | 93.1 +- 0.5 | 4.3 +- 0.4        |
| native ensemble, a branch | 93.0 +- 0.4 | 2.1 +- 0.5        |
| own teacher, by exits     | 92.9 +- 0.6 | 2.4 +- 0.5        |
| past predictions          | 93.0 +- 0.8 | 3.6 +- 0.4        |
| moving average            | 93.8 +- 0.9 | 13.4 +- 1.1       |
| moving average, 800 more  | 94.5 +- 0.7 | 2.2 +- 0.6        |
"""

print(f"{'':30}accuracy (%) | calibration error (%)")
for row, scores in results.items():
    print(f"{row:30}{text_of(scores)}")

figure, axis = plt.subplots(figsize=(8, 3.6))
for place, scores in enumerate(results.values()):
    accuracies = [accuracy for accuracy, _ in scores]
    axis.plot(accuracies, [place] * len(scores), "o", alpha=0.6)
    axis.plot(np.mean(accuracies), place, "k|", markersize=18)
axis.set_yticks(range(len(results)), list(results))
axis.invert_yaxis()
axis.set_xlabel("test accuracy (%): a dot for each seed, a bar for the mean")
axis.grid(axis="x", alpha=0.3)
figure.tight_layout()
plt.savefig("self_distillation.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy of the students.*

Which differences are larger than the spread of the seeds?

- **The images without labels** gain most: 94.5 %, against 93.2 % alone. If you
  have such images, begin with the moving average.
- **Mutual learning helps** a little: three students that learn together are
  better by 0.5 +- 0.4 points than the same three, from the same random weights,
  alone. That is the mean and the standard deviation of the five differences;
  four of them are above 0. The only cost is to train three models at once.
- **The others** gain nothing here that is larger than the spread. Their papers
  have networks of millions of weights, which memorize their training images,
  and hundreds of classes, of which some are similar. With a network of 10,000
  weights and ten digits there is little to improve.
- **Calibration** got worse with most of them. Soft targets make a model less
  confident. That helps a model that is too confident; ours was not. The moving
  average of the short run is an extreme case. The run has 420 steps, and with a
  decay of 0.99 the average covers about the last hundred; in the run with the
  800 images, five times as long, this effect is gone.

So none of these always helps. They are cheap to try, and each takes one line:
try them on your data, from more than one seed, and compare with the student
alone.

## Where to go from here

- A student can be distilled from an earlier student of the same architecture,
  generation after generation: `schemes.born_again`, in the guide on teacher
  assistants.
- If you do have a teacher, or several, see the guide on teacher ensembles.
- All of this is saved, loaded and resumed like any distiller: the
  previous-epoch predictions and the averaged weights are part of its training
  state.
"""
