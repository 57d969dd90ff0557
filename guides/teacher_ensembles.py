"""
Title: Teacher ensembles
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/21
Description: Distill from several models at once, or from any Python function.
Accelerator: None
"""

"""
## Introduction

Several models that were trained separately make different errors, and the mean
of their predictions is right more often than any of them. But running five
models costs five times as much as running one. So distill the five into one.

For the student, an ensemble is a teacher like any other. In this guide you will

- make an `Ensemble` of models, and distill from it;
- give good members a larger weight: a fixed one, a learned one, or one for each
  sample, by the labels;
- add members that take other images, or predict only some of the classes;
- learn features from one teacher and predictions from another;
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
## The data, split among several owners

Five offices read handwritten digits. Each has labeled images of its own, and
has trained a model with them. We get the models, but not the images. We have
400 images of our own, of which 100 have labels.

(They are the 1,797 digits of 8x8 pixels of scikit-learn: 1,000 to train with,
500 for the test. The 297 others were used to choose the settings below.)
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))
labels = labels.astype("int32")


def split(indices, size):
    """Splits off `size` samples, as many of each class."""
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
_, labeled = split(ours, 100)
print(f"{len(ours)} images are ours, {len(labeled)} of them with labels")

"""
The first office has a convolutional network, the second a dense one. The third
has only 40 images, and its model is less accurate.
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

An `Ensemble` is a Keras model. Its output is the mean of the members'
probabilities at a `temperature`, as logits. Give it the temperature of the
loss: then its soft targets are the mean of the members' soft targets, as in
[Hinton et al. (2015)](https://arxiv.org/abs/1503.02531).
"""

TEMPERATURE = 2.0


def ensemble_of(members, **arguments):
    return kd.teachers.Ensemble(members, temperature=TEMPERATURE, **arguments)


mean = ensemble_of([first, second, third])
print(f"The mean of three: {accuracy(mean):.1f} %")

"""
On JAX the three have 91.4, 91.0 and 85.4 %, and their mean has 92.2: four of
the 500 images more than the best, although the third is much worse.

Distillation works as with one teacher. The members run one after another in
each step, so data may be augmented and endless.

The student is small: 2,314 weights. It has one convolution, and 16 hidden
units.
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
few_labels = np.where(np.isin(ours, labeled), labels[ours], -1)


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


record("alone, 100 labels", lambda: train_alone(labeled))
record("first office", lambda: distill(first))
record("mean of three", lambda: distill(mean))

"""
## Weights of the members

The third model is less accurate, but has the same weight as the others. If you
know that, give weights; they are divided by their sum.
"""

fixed = ensemble_of([first, second, third], weights=[2, 2, 1])
print(f"Fixed weights: {accuracy(fixed):.1f} %")

"""
If you don't know, the weights can be learned. An ensemble with
`weights="learned"` is compiled and fitted like any model, and has one number
for each member to train; the members stay as they are. Use images on which no
member was trained: on its own images a member is always better. Our 100 labeled
images will do.
"""

learned = kd.teachers.Ensemble([first, second, third], weights="learned")
learned.compile(keras.optimizers.Adam(0.05), classification_loss())
learned.fit(
    images[labeled], labels[labeled], batch_size=50, epochs=60, verbose=0
)
weights = keras.ops.convert_to_numpy(keras.ops.softmax(learned.member_logits))
print("Learned weights:", weights.round(2), f"{accuracy(learned):.1f} %")
learned = ensemble_of([first, second, third], weights=weights)

"""
They are learned at temperature 1. Then the numbers are used, as fixed weights,
in an ensemble with the temperature of the distillation.

These are the weights with the highest likelihood, and not those with the
highest accuracy. On JAX the first member gets the weight 0.83, and the ensemble
has 91.6 %: of 500 images, three errors more than with the plain mean, and seven
more than with our fixed weights. (Its student, as you will see, is not worse.)
"""

record("learned weights", lambda: distill(learned))

"""
### By the labels, for each sample

Or use weights for each sample: a member that predicts its label well gets a
larger weight. That is the confidence of [CA-MKD (Zhang et al.,
2022)](https://arxiv.org/abs/2201.00007), and it needs labels. A `Distiller`
gives the ensemble the labels of the batch.

A sample without a label has equal weights. So here we use all of our 400
labels, and compare with the plain mean, and with no teacher at all.
"""

confident = ensemble_of([first, second, third], weights="confidence")
record("alone, 400 labels", lambda: train_alone(ours))
record("mean, 400 labels", lambda: distill(mean, labels[ours]))
record("confidence, 400 labels", lambda: distill(confident, labels[ours]))

"""
The accuracy of `confident` itself means little: `predict` has no labels, and
gives the plain mean. Without labels there is `weights="entropy"`: a confident
member gets a larger weight, whether it is right or wrong.

## Members that differ

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
A `Member` describes all that.
"""

member = kd.teachers.Member(
    specialist, preprocess=reader, classes=[0, 1, 2, 3, 4], from_logits=False
)
joined = ensemble_of([first, second, third, member], weights=[2, 2, 2, 1])
print(f"With the specialist: {accuracy(joined):.1f} %")
record("mean with specialist", lambda: distill(joined))

"""
A class that only some members predict gets the mean over those members. But a
specialist can't predict "none of these". For a 7 its probabilities of the
digits from 0 to 4 still add up to 1, and the other members have to correct
that. With a full weight it made the ensemble worse on the validation images. So
it has half the weight, and it gains almost nothing. Add a member only if it is
better than the others at something.

## A random forest, or any function

The fourth office has no network, but a random forest.
"""

forest = RandomForestClassifier(random_state=0)
forest.fit(images[fourth_office].reshape(-1, 64), labels[fourth_office])
forest_teacher = kd.teachers.FunctionTeacher.of_classifier(forest, (8, 8, 1))
print(f"The forest: {accuracy(forest_teacher):.1f} %")

"""
`of_classifier` takes any scikit-learn classifier that has `predict_proba`. A
`FunctionTeacher` is the general case: a Python function from a NumPy array of
samples to one of logits or probabilities. It may read a table or call a server.
Here it computes the distance to the mean image of each class.
"""

means = np.stack(
    [images[labeled][labels[labeled] == digit].mean(0) for digit in range(10)]
)


def nearness(batch):
    distances = np.square(batch[:, None] - means).sum(axis=(2, 3, 4))
    return -distances


nearest = kd.teachers.FunctionTeacher(nearness, (8, 8, 1), 10)
print(f"The nearest mean: {accuracy(nearest):.1f} %")

"""
Such a function runs on the host, once in each step, also in compiled steps, on
all three backends. A `FunctionTeacher` is a Keras model, so it can be a member
of an ensemble.
"""

all_five = ensemble_of([first, second, third, forest_teacher, nearest])
print(f"All five: {accuracy(all_five):.1f} %")
record("the forest", lambda: distill(forest_teacher, temperature=1.0))
record("mean of five", lambda: distill(all_five))

"""
The forest was distilled at temperature 1: its probabilities are soft already.

## Features of one, predictions of another

A forest has no hidden layers. But the first office's network has, and a
transfer can read any member's layers at taps below `members`. With a weight of
0 that member has no effect on the predictions: these are the forest's alone.
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
Its weight is 0.03: with a larger one, on the validation images, the student was
worse than the one that learned from the forest alone.

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
axis.set_xlabel("test accuracy (%): a dot for each seed, a bar for the mean")
axis.grid(axis="x", alpha=0.3)
figure.tight_layout()
plt.savefig("teacher_ensembles.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy of the students.*

What does this show? Without more labels, every teacher helps, even the forest,
if only a little: the student ends within about a point of its teacher, above it
or below. Several teachers are better than one. Five, of different kinds, are
better than three; they gain four points over the student alone. Features in
addition to the forest's predictions made no difference.

The weights of the members matter less. Learned weights gain less than a point,
and that may be chance: the teachers were trained only once, and others might
put the rows in another order. Weights by the labels gain one point.

But look at the last row. With labels for all images, the student alone is best
by far: it was then trained on more labels than each of the teachers. An
ensemble of modest models can replace labels that you don't have. It is not
better than labels that you have.

## Conclusion

- `Ensemble([...], temperature=...)` is a teacher like any other: begin with the
  plain mean, at the temperature of the loss;
- `weights` are numbers, `"learned"`, `"confidence"` (needs labels) or
  `"entropy"`: try them on held-out images before you distill;
- `Member` describes a model's inputs, and the classes that it predicts;
- `FunctionTeacher` makes a teacher, or a member, of any Python function;
- a member with a weight of 0 can give features, without an effect on the
  predictions.

Where next:

- *Features and attention*: taps and adapters in detail;
- `examples/ensemble_to_mobilenet.py`: five networks on MNIST, distilled into
  one with 168 times fewer weights;
- `examples/forest_to_network.py`: a forest that predicts images with noise.
"""
