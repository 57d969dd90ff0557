"""
Title: Writing a loss of your own
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/21
Description: From a formula to a verified loss that trains a student.
Accelerator: None
Needs: pip install ".[jax,quickstart]"
"""

"""
## Introduction

You have an idea of what a student should learn from its teacher. In this guide
you turn it into a loss, find the mistakes that such losses usually have, and
measure whether it helps. You will

- write the idea as a pure function, and wrap it in a `DistillationLoss`;
- let `check_loss` compare it with NumPy, and try it on inputs where losses
  break;
- use what a loss may need besides the two inputs: labels and weights;
- train with it, over several seeds, and compare it with soft targets.

If `kd.Distiller(teacher, student)` is new to you, read [Getting
started](getting_started.ipynb) first.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from keras import ops
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd

# One seed in a trial run, under the environment variable KERAS_MAX_EPOCHS=1.
SEEDS = range(1 if keras.config.max_epochs() == 1 else 3)

"""
## The idea

With soft targets the student has to match the teacher's *probabilities*.
Perhaps that is too hard for a small student. Let it match the *order* of the
classes instead: its logits should be large where the teacher's are large,
whatever their size. That is what a correlation measures:

    value = 1 - correlation(teacher_logits, student_logits)

The value is 0 where one side's logits are a positive multiple of the other's
plus a constant, and 2 where they are opposites. (The idea is one half of DIST,
Huang et al., 2022, arXiv 2205.10536.)

## A first attempt

A first version could look like this. A loss gets two inputs, one from the
teacher and one from the student, and returns one value for each sample.
"""


class FirstAttempt(kd.losses.DistillationLoss):
    def call(self, teacher_logits, student_logits):
        teacher = teacher_logits - ops.mean(teacher_logits)
        student = student_logits - ops.mean(student_logits)
        products = ops.sum(teacher * student, axis=-1)
        lengths = ops.norm(teacher, axis=-1) * ops.norm(student, axis=-1)
        return 1.0 - products / lengths


"""
It runs, it gets smaller during training, and it would pass most reviews. Let
`check_loss` test it. It needs the loss, features of a teacher and a student to
try it on (six samples or more) and, if you have one, the same formula in NumPy.
That should be written independently, and not be a copy of the first.
"""


def correlation_distance_in_numpy(teacher, student):
    return np.array(
        [1 - np.corrcoef(t, s)[0, 1] for t, s in zip(teacher, student)]
    )


random = np.random.default_rng(0)
teacher_features, student_features = random.normal(size=(2, 6, 5)).astype(
    "float32"
)


def check(loss):
    try:
        checks = kd.testing.check_loss(
            loss,
            teacher_features,
            student_features,
            reference=correlation_distance_in_numpy,
        )
        print(f"{loss.__name__} passes: {', '.join(checks)}")
    except AssertionError as error:
        print(f"{loss.__name__} fails: {error}")


check(FirstAttempt)

"""
It fails. The mean is taken over the whole batch, not over the classes: one
sample changes the values of the others. The fix is `axis=-1, keepdims=True`.
"""


class SecondAttempt(kd.losses.DistillationLoss):
    def call(self, teacher_logits, student_logits):
        teacher = teacher_logits - ops.mean(
            teacher_logits, axis=-1, keepdims=True
        )
        student = student_logits - ops.mean(
            student_logits, axis=-1, keepdims=True
        )
        products = ops.sum(teacher * student, axis=-1)
        lengths = ops.norm(teacher, axis=-1) * ops.norm(student, axis=-1)
        return 1.0 - products / lengths


check(SecondAttempt)

"""
The numbers are right now, but it still fails: logits that are all equal have
length 0, and 0 / 0 is NaN. A network that has just been initialized with zeros
gives exactly such logits, and one NaN ends a training run. So the length gets a
lower bound, *under the root*: there it keeps the gradient finite, too.

## The loss

Put the formula into a function of its own. It returns one value for each sample
and reduces nothing. The class around it only defines how it is called, so the
function can be tested and used without it.
"""


def correlation_distance(teacher_logits, student_logits):
    teacher, student = centered(teacher_logits), centered(student_logits)
    products = ops.sum(teacher * student, axis=-1)
    return 1.0 - products / (length(teacher) * length(student))


def centered(logits):
    return logits - ops.mean(logits, axis=-1, keepdims=True)


def length(logits):
    squares = ops.sum(ops.square(logits), axis=-1)
    return ops.sqrt(ops.maximum(squares, 1e-12))


@keras.saving.register_keras_serializable(package="guide")
class CorrelationDistance(kd.losses.DistillationLoss):
    expects_logits = True

    def call(self, teacher_logits, student_logits):
        return correlation_distance(teacher_logits, student_logits)


check(CorrelationDistance)

"""
All checks pass. What has been checked, in the order above:

- **numpy**: value and gradient are those of the formula, to 1e-5;
- **minimum**: for identical features the loss is 0, and its gradient is 0;
- **order**: the order of the batch changes nothing;
- **absent**: a sample of weight 0 has no effect, neither on the value nor on
  any gradient;
- **twice**: a sample of weight 2 counts like two samples;
- **nobody**: weights of 0 throughout give 0, not NaN;
- **extreme**, **half**, **constant**, **one_sample**: finite on inputs where
  other losses break;
- **compiled**: the compiled loss gives the same values as the eager one;
- **serialization**: it is the same loss after saving and loading.

Sample weights, masks and mixed precision are handled by the base class and by
`keras.losses.Loss`. With `expects_logits` the loss takes
`teacher_from_logits=False` and `student_from_logits=False` for models that end
in a softmax: `call` is given logits.

Your formula may have invariances, too. Give them, and they are checked:
"""


def shifted(logits):
    # Another constant for each sample.
    return logits + np.linspace(-2.0, 2.0, len(logits))[:, None].astype(
        "float32"
    )


checks = kd.testing.check_loss(
    CorrelationDistance,
    teacher_features,
    student_features,
    invariances=[shifted],
)
print("invariances" in checks)

"""
## What else a loss may need

A keyword-only argument of `call` names something that the loss needs. `labels`
are the batch's labels:
"""


class OnlyWhereTheTeacherIsRight(kd.losses.DistillationLoss):
    def call(self, teacher_logits, student_logits, *, labels):
        right = ops.argmax(teacher_logits, axis=-1) == ops.cast(labels, "int32")
        values = correlation_distance(teacher_logits, student_logits)
        return ops.where(right, values, 0.0)


loss = OnlyWhereTheTeacherIsRight()
print(f"Required context: {loss.required_context}")
print(float(loss(teacher_features, student_features, labels=np.arange(6) % 5)))

"""
In a `Transfer` the loss gets the labels of the batch; your data set stays as it
is.

`sample_weight` is for losses that compare samples *with each other*, where a
weight belongs inside of the sum, and `mask` for those that compare positions.
`sample_index` and `training` are for a loss that stores something for each
sample (the data then has `y={"labels": ..., "sample_index": ...}`, as
`kd.losses.ContrastiveMemory` shows). And a loss with the class attribute `joint
= True` gets the features at all taps of its transfer at once, as two lists.

## Does it help?

Now real data: the 8x8 digits of scikit-learn. Fifty images have labels, 950
have none (their label is -1), and 797 are for testing.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))
train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=797, stratify=labels, random_state=0
)
BATCH_SIZE = 50


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )


def make_teacher():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )


def make_student():
    hidden = layers.Dense(32, activation="relu")
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), hidden, layers.Dense(10)]
    )


def accuracy(model):
    logits = ops.convert_to_numpy(model(test_images, training=False))
    return 100 * np.mean(logits.argmax(axis=-1) == test_labels)


def train(model, x, y, learning_rate, epochs):
    model.compile(keras.optimizers.Adam(learning_rate), classification_loss())
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)


keras.utils.set_random_seed(0)
teacher = make_teacher()
train(teacher, train_images, train_labels, 1e-3, 20)
print(f"Teacher: {accuracy(teacher):.1f} %")

"""
A correlation lies between -1 and 1, so the loss is much smaller than soft
targets with their factor of T^2. Look at the parts in the logs when you choose
the weight: a term that is a hundred times smaller than the others has no
effect.
"""

WAYS = {
    "labels alone": None,
    "soft targets": lambda: [
        kd.Transfer(kd.losses.SoftTargets(temperature=4.0), weight=0.9)
    ],
    "correlation": lambda: [kd.Transfer(CorrelationDistance(), weight=10.0)],
}


def run(way, seed):
    keras.utils.set_random_seed(seed)
    few, _ = train_test_split(
        np.arange(1000), train_size=50, stratify=train_labels, random_state=seed
    )
    student = make_student()
    if WAYS[way] is None:
        # Repeated, so that it makes as many steps as the others.
        few = np.tile(few, 20)
        train(student, train_images[few], train_labels[few], 1e-2, 60)
    else:
        partly_labeled = np.full_like(train_labels, -1)
        partly_labeled[few] = train_labels[few]
        distiller = kd.Distiller(teacher, student, WAYS[way]())
        train(distiller, train_images, partly_labeled, 1e-2, 60)
    return accuracy(student)


results = {way: [run(way, seed) for seed in SEEDS] for way in WAYS}
for way, accuracies in results.items():
    print(f"{way:14} {np.mean(accuracies):5.1f} ± {np.std(accuracies):.1f} %")

figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for place, accuracies in enumerate(results.values()):
    axis.plot(accuracies, [place] * len(accuracies), "o", alpha=0.7)
axis.set_yticks(range(len(results)), list(results))
axis.set_ylim(len(results) - 0.5, -0.5)
axis.set_xlabel("test accuracy in % (one dot for each seed)")
plt.savefig("writing_a_loss.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy of the students, one dot for each seed.*

The idea works: the correlation alone brings the student from 85.2 ± 1.7 to 96.2
± 0.5 %, without matching the size of the logits. It is not an improvement: soft
targets reach 96.5 ± 0.4 %, and the difference is within the spread of the three
seeds. The teacher has 97.5 %.

## Conclusion

A distillation loss is a pure function that returns one value for each sample,
and a class of a few lines. `kd.testing.check_loss` compares it with a formula
in NumPy and tries it on inputs where losses usually break; put that call into
your tests.

Where next: `kd.losses.DistillationLoss` says how positions,
channels and masks are handled; `kd.testing.LossCase` lists all
that can be checked; and each [method](../methods/index.md) has a link to its
source.
"""
