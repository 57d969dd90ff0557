"""
Title: Learning from many teachers
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/21
Description: Teach a student by an ensemble, unlike models or any function.
Accelerator: None
"""

"""
## Introduction

Two heads are better than one. Several models that were trained apart make
different mistakes, and their mean is right more often than any of them. Nobody
likes to run five models where one would do, though; so let the five teach one.

For the student, an ensemble is a teacher like any other. In this guide you will

- join models to an `Ensemble`, and distill from it;
- let good members count more: by fixed weights, by weights that are learned, or
  anew for each sample, by the labels;
- add members that take other images, or know only some of the classes;
- learn features from one teacher and answers from another;
- learn from a scikit-learn classifier, or any Python function.

If `kd.Distiller(teacher, student)` is new to you, read *Getting started* first.

```shell
pip install ".[jax,examples]"  # in a clone of the repository
```
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import keras_kd as kd

# One seed in a trial run, under the environment variable KERAS_MAX_EPOCHS=1.
SEEDS = range(1 if keras.config.max_epochs() == 1 else 3)

"""
## The data, in several hands

Five post offices read handwritten digits. Each has labelled images of its own,
and trained a model with them. The images stay where they are; the models are
given to us. We have 400 images, of which 100 have labels.

(They are the 1,797 digits of 8x8 pixels that scikit-learn ships: 1,000 to train
with, 500 for the test. The 297 others served to choose the settings below.)
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))
labels = labels.astype("int32")


def split(indices, size):
    """Takes `size` away, as many of each class."""
    return train_test_split(
        indices, test_size=size, stratify=labels[indices], random_state=0
    )


rest, test = split(np.arange(len(labels)), 500)
rest, validation = split(rest, 297)
rest, first_office = split(rest, 120)
rest, second_office = split(rest, 120)
rest, third_office = split(rest, 40)
rest, fourth_office = split(rest, 120)
ours, fifth_office = split(rest, 200)
_, labelled = split(ours, 100)
print(f"{len(ours)} images are ours, {len(labelled)} of them with labels")

"""
The first office has a convolutional network, the second a dense one. The third
has only 40 images, and its model is poor.
"""


def make_convolutional(size=8, classes=10):
    inputs = keras.Input((size, size, 1))
    x = layers.Conv2D(
        32, 3, strides=size // 8, padding="same", activation="relu"
    )(inputs)
    x = layers.MaxPooling2D(name="stage1")(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="stage2")(
        x
    )
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def make_dense():
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    x = layers.Dense(64, activation="relu")(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def classification_loss(**arguments):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **arguments
    )


def fit(model, x, y=None, loss=None, rate=5e-3, epochs=60):
    steps = epochs * -(-len(x) // 40)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule), loss)
    model.fit(x, y, batch_size=40, epochs=epochs, verbose=0)
    return model


def accuracy(model, indices=test):
    logits = model.predict(images[indices], batch_size=500, verbose=0)
    return 100 * np.mean(np.argmax(logits, axis=-1) == labels[indices])


def train(model, indices):
    return fit(model, images[indices], labels[indices], classification_loss())


keras.utils.set_random_seed(0)
first = train(make_convolutional(), first_office)
second = train(make_dense(), second_office)
third = train(make_convolutional(), third_office)
for name, model in zip(("first", "second", "third"), (first, second, third)):
    print(f"{name}: {accuracy(model):.1f} %")

"""
## An ensemble

An `Ensemble` is a Keras model. Its answer is the mean of the members'
probabilities at a `temperature`, as logits. Give it the temperature of the
loss, and the soft targets are the mean of the members' soft targets, as in
[Hinton et al. (2015)](https://arxiv.org/abs/1503.02531).
"""

TEMPERATURE = 2.0


def ensemble_of(members, **arguments):
    return kd.teachers.Ensemble(members, temperature=TEMPERATURE, **arguments)


mean = ensemble_of([first, second, third])
print(f"The mean of three: {accuracy(mean):.1f} %")

"""
On JAX the three have 91.4, 91.0 and 85.4 %, and their mean has 92.2: four of
the 500 images more than the best, although the third is far behind.

Distilling is as with one teacher. The members run one after another in each
step, so augmentation and endless data are no obstacle.

The student is small: 2,314 weights. It has one convolution, and no more than 16
hidden units.
"""


def make_student():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(
        8, 3, strides=2, padding="same", activation="relu", name="conv"
    )(inputs)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(10)(x))


# An image without a label has the label -1, which the loss ignores.
few_labels = np.where(np.isin(ours, labelled), labels[ours], -1)


def distill(teacher, y=few_labels, temperature=TEMPERATURE, extra=()):
    soft = kd.Transfer(kd.losses.SoftTargets(temperature), weight=0.9)
    distiller = kd.Distiller(teacher, make_student(), [soft, *extra])
    loss = classification_loss(ignore_class=-1)
    fit(distiller, images[ours], y, loss, rate=1e-2, epochs=80)
    return distiller.student


results = {}


def record(name, make):
    scores = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        scores.append(accuracy(make()))
    results[name] = scores
    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    print(f"{name}: {np.mean(scores):.1f} +- {spread:.1f} %")


def train_alone(indices):
    # As many steps as with all 400 images.
    epochs = 80 * len(ours) // len(indices)
    x, y, loss = images[indices], labels[indices], classification_loss()
    return fit(make_student(), x, y, loss, rate=1e-2, epochs=epochs)


record("alone, 100 labels", lambda: train_alone(labelled))
record("first office", lambda: distill(first))
record("mean of three", lambda: distill(mean))

"""
## Who counts how much

The third model is poor, and has as many votes as the others. If you know that,
say so: the weights are divided by their sum.
"""

fixed = ensemble_of([first, second, third], weights=[2, 2, 1])
print(f"Fixed weights: {accuracy(fixed):.1f} %")

"""
If you don't know, have them learned. An ensemble with `weights="learned"` is
compiled and fitted as any model, and has one number a member to train; the
members stay as they are. Use images that no member was trained on: a member
always looks well on its own. Our 100 labelled images will do.
"""

learned = kd.teachers.Ensemble([first, second, third], weights="learned")
learned.compile(keras.optimizers.Adam(0.05), classification_loss())
learned.fit(
    images[labelled], labels[labelled], batch_size=50, epochs=60, verbose=0
)
votes = keras.ops.convert_to_numpy(keras.ops.softmax(learned.member_logits))
print("Learned weights:", votes.round(2), f"{accuracy(learned):.1f} %")
learned = ensemble_of([first, second, third], weights=votes)

"""
They are learned at temperature 1, at which the members are judged. Then the
numbers go, fixed, into an ensemble of the temperature that we distill with.

Mind what is learned: the weights of the highest likelihood, which are not those
of the most right answers. On JAX the first member gets 0.83 of the votes, and
the ensemble has 91.6 %: of 500 images, three mistakes more than with the plain
mean, and seven more than with the weights that we gave by hand. (Its student,
as you will see, is none the worse.)
"""

record("learned weights", lambda: distill(learned))

"""
### By the labels, for each sample

Or let each sample decide: whoever is right about it counts more. That is the
confidence of [CA-MKD (Zhang et al., 2022)](https://arxiv.org/abs/2201.00007),
and it takes labels. A `Distiller` shows the ensemble those of the batch.

A sample without a label has equal weights. So for once we look up all of our
400 labels, and compare with the plain mean, and with no teacher at all.
"""

confident = ensemble_of([first, second, third], weights="confidence")
record("alone, 400 labels", lambda: train_alone(ours))
record("mean, 400 labels", lambda: distill(mean, labels[ours]))
record("confidence, 400 labels", lambda: distill(confident, labels[ours]))

"""
The accuracy of `confident` itself means little: `predict` has no labels to
show, and gives the plain mean. Without labels there is `weights="entropy"`:
whoever is sure counts more, rightly or wrongly.

## Unlike members

The fifth office only reads the digits from 0 to 4. It enlarges images to 16x16
pixels of values from 0 to 255, and its network ends in a softmax.
"""

reader = keras.Sequential(
    [layers.Resizing(16, 16), layers.Rescaling(255.0)], name="enlarge"
)
low = fifth_office[labels[fifth_office] < 5]
enlarged = keras.ops.convert_to_numpy(reader(images[low]))
specialist = make_convolutional(size=16, classes=5)
specialist = keras.Sequential(
    [keras.Input((16, 16, 1)), layers.Rescaling(1 / 255), specialist]
)
specialist.add(layers.Softmax())
loss = keras.losses.SparseCategoricalCrossentropy()
fit(specialist, enlarged, labels[low], loss)

"""
A `Member` says all that.
"""

member = kd.teachers.Member(
    specialist, preprocess=reader, classes=[0, 1, 2, 3, 4], from_logits=False
)
joined = ensemble_of([first, second, third, member], weights=[2, 2, 2, 1])
print(f"With the specialist: {accuracy(joined):.1f} %")
record("mean with specialist", lambda: distill(joined))

"""
A class that only some members know gets the mean over those. A specialist never
says "none of mine", however. Shown a 7, it still spreads all of its probability
over the digits from 0 to 4, and the others have to outvote it. With a full vote
it made the ensemble worse on the validation images. So it has half a vote, and
its gain is next to nothing. A member is worth adding for what it knows better,
not for being one more.

## A forest, or any function

The fourth office has no network at all, but a random forest.
"""

forest = RandomForestClassifier(random_state=0)
forest.fit(images[fourth_office].reshape(-1, 64), labels[fourth_office])
forest_teacher = kd.teachers.FunctionTeacher.of_classifier(forest, (8, 8, 1))
print(f"The forest: {accuracy(forest_teacher):.1f} %")

"""
`of_classifier` takes any scikit-learn classifier that has `predict_proba`. A
`FunctionTeacher` is the general case: a Python function from a NumPy array of
samples to one of logits or probabilities. It may look up a table or ask a
server. Here it measures the distance to the mean image of each class.
"""

means = np.stack(
    [images[labelled][labels[labelled] == digit].mean(0) for digit in range(10)]
)


def nearness(batch):
    distances = np.square(batch[:, None] - means).sum(axis=(2, 3, 4))
    return -distances


nearest = kd.teachers.FunctionTeacher(nearness, (8, 8, 1), 10)
print(f"The nearest mean: {accuracy(nearest):.1f} %")

"""
Such a function is asked on the host, once a step, also in compiled steps on all
three backends. And being a Keras model, it can join an ensemble.
"""

all_five = ensemble_of([first, second, third, forest_teacher, nearest])
print(f"All five: {accuracy(all_five):.1f} %")
record("the forest", lambda: distill(forest_teacher, temperature=1.0))
record("mean of five", lambda: distill(all_five))

"""
The forest was distilled at temperature 1: its probabilities are soft as they
are.

## Features of one, answers of another

A forest has no hidden layers. But the first office's network has, and a
transfer can tap any member's layers below `members`. A weight of 0 keeps that
member out of the answers: these are the forest's alone.
"""

both = kd.teachers.Ensemble([first, forest_teacher], weights=[0, 1])


def features():
    return kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="members/0/stage2",
        student="conv",
        adapter=kd.layers.FeatureAdapter(),
        weight=0.03,
    )


record(
    "the forest + features",
    lambda: distill(both, temperature=1.0, extra=[features()]),
)

"""
It is weighted by 0.03: with more, on the validation images, the student fell
behind the one that learned from the forest alone.

## What we found

Test accuracy in percent, mean and standard deviation over three seeds of the
student, on a CPU with JAX, in three minutes. The teachers are trained once.

| student                        | teacher itself | student     |
|--------------------------------|----------------|-------------|
| alone, 100 labels              |                | 88.7 +- 0.4 |
| first office                   | 91.4           | 91.4 +- 0.3 |
| mean of three                  | 92.2           | 92.0 +- 0.3 |
| learned weights                | 91.6           | 92.7 +- 0.3 |
| mean of three and specialist   | 92.4           | 92.2 +- 0.2 |
| mean of five                   | 92.6           | 92.7 +- 0.2 |
| the forest                     | 89.6           | 89.3 +- 0.2 |
| the forest, and features       | 89.6           | 89.6 +- 0.7 |
| mean of three, 400 labels      | 92.2           | 92.1 +- 0.3 |
| confidence, 400 labels         |                | 93.1 +- 0.4 |
| alone, 400 labels              |                | 94.5 +- 0.8 |
"""

figure, axis = plt.subplots(figsize=(8, 3.8))
for row, scores in enumerate(results.values()):
    axis.plot(scores, [row] * len(scores), "o", alpha=0.6)
    axis.plot(np.mean(scores), row, "k|", markersize=18)
axis.set_yticks(range(len(results)), list(results))
axis.invert_yaxis()
axis.set_xlabel("test accuracy (%); one dot a seed, a bar for the mean")
axis.grid(axis="x", alpha=0.3)
figure.tight_layout()
plt.savefig("many_teachers.png", dpi=120)
plt.close(figure)

"""
![Test accuracy of the students](many_teachers.png)

What may we say of this? Without other labels, any teacher is worth having, even
the forest, if barely: the student ends within about a point of its teacher,
above it or below. Several teachers are better than one. Five, of different
kinds, are better than three; they add four points to what the student can do
alone. Features on top of the forest's answers made no difference.

How the members are weighed matters less. Learned weights gain less than a
point, and that may be luck: the teachers were trained only once, and others
might put the rows in another order. Members picked by the labels gain one
point.

But look at the last row. With labels for all images, the student alone is best
by far: it then knows more than teachers who saw fewer images. An ensemble of
modest models stands in for labels that you lack. It does not beat those that
you have.

## Conclusion

- `Ensemble([...], temperature=...)` is a teacher like any other: begin with the
  plain mean, at the temperature of the loss;
- `weights` are numbers, `"learned"`, `"confidence"` (needs labels) or
  `"entropy"`: try them on held-out images before you distill;
- `Member` says what a model takes, and which classes it knows;
- `FunctionTeacher` makes a teacher, or a member, of any Python function;
- with a weight of 0, a member can teach its features and be silent otherwise.

Where next:

- *Features and attention*: taps and adapters in detail;
- `examples/ensemble_to_mobilenet.py`: five networks on MNIST, in one with 168
  times fewer weights;
- `examples/forest_to_network.py`: a forest that is asked about made-up images.
"""
