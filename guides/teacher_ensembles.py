"""
Title: Ensembles and heterogeneous teachers
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/30
Description: Distil from several models at once, also of different kinds.
Accelerator: None
Needs: pip install ".[jax,tensorflow,examples]"
"""

"""
## Introduction

Several models that were trained separately make different errors, and the mean
of their predictions is right more often than most of them. But running five
models costs five times as much as running one. So distil them into one
(*multi-teacher distillation*).

The teachers need not be alike. One may be a random forest, one may take other
images, one may know only some of the classes. For the student, such a group is
a teacher like any other. In this guide you will

- make an `Ensemble` of models, and distil from it;
- give good members a larger weight: a fixed one, or a learned one;
- distil a random forest, and any other Python function;
- add a member that takes other images, and predicts only some of the classes.

You should know [Getting started](getting_started.ipynb). The images are
downloaded (MNIST).
"""

import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_datasets as tfds
from keras import layers
from sklearn.ensemble import RandomForestClassifier

import keras_kd as kd

# One seed in a trial run, under the environment variable KERAS_MAX_EPOCHS=1.
SEEDS = range(1 if keras.config.max_epochs() == 1 else 3)

"""
## The data, split among several owners

Five offices read handwritten digits. Each has labeled images of its own, and
has trained a model with them. We get the models, but not the images. We have
2,000 images of our own, of which 200 have labels. 2,000 others are for the
test.
"""


def mnist(split):
    data = tfds.load("mnist", split=split, batch_size=-1, as_supervised=True)
    images, labels = tfds.as_numpy(data)
    return images.astype("float32") / 255, labels


images, labels = mnist("train[:9000]")
test_images, test_labels = mnist("test[:2000]")
ours, our_labels = images[:2000], labels[:2000]
# An image without a label has the label -1, which the loss ignores.
few_labels = np.where(np.arange(2000) < 200, our_labels, -1)


def office(number, size):
    """Images and labels of an office."""
    own = slice(1000 * (number + 2), 1000 * (number + 2) + size)
    return images[own], labels[own]


"""
The first office has a convolutional network, the second a dense one. The third
has only 100 images, and its model is less accurate.
"""


def make_convolutional(size=28, classes=10):
    stack = [keras.Input((size, size, 1))]
    for width in (16, 32):
        stack += [layers.Conv2D(width, 3, padding="same", activation="relu")]
        stack += [layers.MaxPooling2D()]
    stack += [layers.Flatten(), layers.Dropout(0.5), layers.Dense(classes)]
    return keras.Sequential(stack)


def make_dense():
    stack = [keras.Input((28, 28, 1)), layers.Flatten()]
    stack += [layers.Dense(64, activation="relu"), layers.Dropout(0.3)]
    return keras.Sequential([*stack, layers.Dense(10)])


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )


def fit(model, x, y=None, steps=400, epochs=None):
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(schedule), classification_loss())
    epochs = epochs or 50 * steps // len(x)
    model.fit(
        x, y, batch_size=None if y is None else 50, epochs=epochs, verbose=0
    )
    return model


def accuracy(model):
    logits = model.predict(test_images, batch_size=1000, verbose=0)
    return 100 * np.mean(logits.argmax(axis=-1) == test_labels)


keras.utils.set_random_seed(0)
first = fit(make_convolutional(), *office(1, 500))
second = fit(make_dense(), *office(2, 500))
third = fit(make_convolutional(), *office(3, 100))
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


def ensemble_of(*members, **arguments):
    return kd.teachers.Ensemble(members, temperature=TEMPERATURE, **arguments)


mean = ensemble_of(first, second, third)
print(f"mean of three: {accuracy(mean):.1f} %")

"""
The mean is better than the best of them, although the third is much worse.

Distillation works as with one teacher: give the ensemble to a `Distiller`, and
its members run one after another in each step. Here the images stay the same,
so it is cheaper to run them once, and to
[cache](cached_predictions.ipynb) their predictions.

The student is small: one convolution, and 16 hidden units. All students are
trained for 1,200 steps, from three seeds.
"""


def make_student():
    stack = [keras.Input((28, 28, 1))]
    stack += [layers.Conv2D(8, 5, strides=3, activation="relu")]
    stack += [layers.Flatten(), layers.Dense(16, activation="relu")]
    return keras.Sequential([*stack, layers.Dense(10)])


def distill(predictions, temperature):
    soft = kd.Transfer(kd.losses.SoftTargets(temperature), weight=0.9)
    distiller = kd.Distiller(predictions, make_student(), [soft])
    data = predictions.join(ours, few_labels, batch_size=50, seed=0)
    fit(distiller, data, steps=1200, epochs=30)
    return distiller.student


results, teacher_accuracy = {}, {}


def record(name, make):
    scores = results[name] = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        scores.append(accuracy(make()))
    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    row = f"{name:18} student {np.mean(scores):.1f} ± {spread:.1f} %"
    if name in teacher_accuracy:
        row += f", its teacher {teacher_accuracy[name]:.1f} %"
    print(row)


def record_distilled(name, teacher, temperature=TEMPERATURE):
    folder = tempfile.mkdtemp()
    kd.cache.write(teacher, ours, folder, verbose=0)
    predictions = kd.cache.open(folder)
    teacher_accuracy[name] = accuracy(teacher)
    record(name, lambda: distill(predictions, temperature))


print(f"student: {make_student().count_params():,} weights")
record(
    "alone, 200 labels",
    lambda: fit(make_student(), ours[:200], our_labels[:200], 1200),
)
record_distilled("first office", first)
record_distilled("mean of three", mean)

"""
## Weights of the members

The third model is less accurate, but has the same weight as the others. If you
know that, give weights (`weights=[2, 2, 1]`). If you don't, they can be
learned. An ensemble with `weights="learned"` is compiled and fitted like any
model, and has one number for each member to train; the members stay as they
are. Use images on which no member was trained: on its own images a member is
always better. Our 200 labeled images will do.
"""

learned = kd.teachers.Ensemble([first, second, third], weights="learned")
learned.compile(keras.optimizers.Adam(0.05), classification_loss())
learned.fit(ours[:200], our_labels[:200], batch_size=50, epochs=30, verbose=0)
weights = keras.ops.convert_to_numpy(keras.ops.softmax(learned.member_logits))
print("learned weights:", weights.round(2))
weighted = ensemble_of(first, second, third, weights=weights)
record_distilled("learned weights", weighted)

"""
They are learned at temperature 1. Then the numbers are used, as fixed weights,
in an ensemble with the temperature of the distillation.

Nearly all of the weight goes to the first member, and that gains nothing: these
are the weights with the highest likelihood on 200 images, and not those with
the highest accuracy. Begin with the plain mean.

## A random forest, or any function

The fourth office has no network, but a random forest.
"""

forest_images, forest_labels = office(4, 500)
forest = RandomForestClassifier(200, random_state=0)
forest.fit(forest_images.reshape(-1, 784), forest_labels)
forest_teacher = kd.teachers.FunctionTeacher.of_classifier(
    forest, (28, 28, 1), version="1"
)

four = ensemble_of(first, second, third, forest_teacher)
record_distilled("the forest", forest_teacher, temperature=1.0)
record_distilled("mean of four", four)

"""
`of_classifier` takes any scikit-learn classifier that has `predict_proba`. A
`FunctionTeacher` is the general case: a Python function from a NumPy array of
samples to one of logits or probabilities. It may read a table or call a server.
The function runs on the host, also in compiled steps, on all three backends. So
it can be a member of an ensemble.

The forest was distilled at temperature 1: its probabilities are soft already.

The forest is less accurate than the networks, and so is its student. But it
makes errors of another kind: the ensemble with the forest is hardly more
accurate, but its students gain a point.

## A member that differs

The fifth office only reads the digits from 0 to 4. Its images have 14x14 pixels
of values from 0 to 255, and its network ends in a softmax.
"""

reader = keras.Sequential(
    [layers.Resizing(14, 14), layers.Rescaling(255.0)], name="reader"
)
low_images, low_labels = office(5, 1000)
low = low_labels < 5
specialist = keras.Sequential(
    [
        keras.Input((14, 14, 1)),
        layers.Rescaling(1 / 255),
        make_convolutional(size=14, classes=5),
    ]
)
fit(
    specialist,
    keras.ops.convert_to_numpy(reader(low_images[low])),
    low_labels[low],
)
specialist.add(layers.Softmax())

"""
A `Member` describes all that.
"""

member = kd.teachers.Member(
    specialist, preprocess=reader, classes=[0, 1, 2, 3, 4], from_logits=False
)
all_five = [first, second, third, forest_teacher, member]
record_distilled("mean of five", ensemble_of(*all_five))
weighted = ensemble_of(*all_five, weights=[1, 1, 1, 1, 0.25])
record_distilled("five, weighted", weighted)

"""
A class that only some members predict gets the mean over those members. But a
specialist can't predict "none of these". For a 7 its probabilities of the
digits from 0 to 4 still add up to 1, and the other members have to correct
that. With a full weight it makes the students worse, with a quarter it changes
nothing. Add a member only if it is better than the others at something.

## What we found

For comparison, the student alone with labels for all of our 2,000 images.
"""

record(
    "alone, 2,000 labels", lambda: fit(make_student(), ours, our_labels, 1200)
)

figure, axis = plt.subplots(figsize=(8, 3.4))
for row, (name, scores) in enumerate(results.items()):
    axis.plot(scores, [row] * len(scores), "o", color="C0", alpha=0.5)
    axis.plot(np.mean(scores), row, "|", color="C0", ms=18, mew=2)
    if name in teacher_accuracy:
        axis.plot(teacher_accuracy[name], row, "kx")
axis.plot([], "C0o", label="student, a seed")
axis.plot([], "kx", label="its teacher")
axis.set_yticks(range(len(results)), list(results))
axis.invert_yaxis()
axis.set_xlabel("test accuracy (%)")
axis.grid(axis="x", alpha=0.3)
axis.legend()
figure.tight_layout()
plt.savefig("teacher_ensembles.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy of the students, and of their teachers.*

With 200 labels, every teacher helps: the student gains 7 to 12 points. One
network gives most of that. Two more give half a point, which is within the
spread of the seeds. A forest beside them gives another point, which brings the
student near to what 2,000 labels of our own would give: 91.5 and 91.7 %.

The teachers were trained only once: others might put the rows in another order.

## Conclusion

- `Ensemble([...], temperature=...)` is a teacher like any other: begin with the
  plain mean, at the temperature of the loss;
- `weights` are numbers, `"learned"`, or for each sample `"confidence"` (needs
  labels) or `"entropy"`;
- `Member` describes a model's inputs, and the classes that it predicts;
- `FunctionTeacher` makes a teacher, or a member, of any Python function.

Before: [Self-distillation](self_distillation.ipynb). Next: [Teacher
assistants](teacher_assistants.ipynb). In short: [how to learn from several
teachers](../how_to/index.md). Larger: `examples/ensemble_to_mobilenet.py`
distils five networks into one with 168 times fewer weights, and
`examples/forest_to_network.py` uses images with noise.
"""
