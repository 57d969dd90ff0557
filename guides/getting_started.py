"""
Title: Getting started with knowledge distillation
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/30
Description: Train a small model with the help of a large one, step by step.
Accelerator: None
Needs: pip install ".[jax,quickstart]"
"""

"""
## Introduction

A large model is accurate but expensive to run. A small model is cheap to run
but less accurate. **Knowledge distillation** trains the small one, the
*student*, on the predictions of the large one, the *teacher*.

Why learn from predictions, when there are labels? A label is one class: a 7. A
prediction is a probability for each class: most likely a 7, perhaps a 1, and
hardly an 8. So one image carries ten numbers in place of one. And images
without a label can be used, too.

In this guide you will

- train a teacher and a student, and see what the student can do alone;
- distil in three lines, and read the logs;
- choose a temperature, and use images that have no labels;
- measure how closely a student follows its teacher, and save it;
- make a usual mistake, and read what the library reports.

This is the first guide. You should have used Keras before, and need to know
nothing about distillation. It runs on a laptop's CPU, on TensorFlow, JAX or
PyTorch: the environment variable `KERAS_BACKEND` chooses.
"""

import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
import scipy
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and one temperature.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)

"""
## The data

scikit-learn contains 1,797 scanned digits of 8x8 pixels. We keep 797 of them
for the test.

This is the situation that distillation is made for. Someone has trained a good
model on 1,000 labeled images, and gave us the model. We have only 100 of the
labels. We may use the other 900 images, but we don't have their labels.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))

train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=797, stratify=labels, random_state=0
)
few_images, few_labels = train_images[:100], train_labels[:100]

"""
## The teacher

A small convolutional network. Note its last layer: it has no activation, so the
model returns *logits*. Distillation works on logits, so the loss gets
`from_logits=True`.
"""


def make_teacher():
    stack = [
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10),
    ]
    return keras.Sequential(stack, name="teacher")


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy(model):
    predictions = model.predict(test_images, batch_size=797, verbose=0)
    return 100 * np.mean(np.argmax(predictions, axis=-1) == test_labels)


keras.utils.set_random_seed(0)
teacher = make_teacher()
teacher.compile("adam", classification_loss())
teacher.fit(train_images, train_labels, batch_size=50, epochs=20, verbose=0)
print(f"teacher: {accuracy(teacher):.1f} %, {teacher.count_params():,} weights")

"""
## The student, alone

One hidden layer of 32 units. We will train it in several ways, and measure it
by the same function each time. The accuracy of such small networks varies with
the random start, by more than some methods differ. So everything is run from
three seeds.
"""


def make_student():
    stack = [
        keras.Input((8, 8, 1)),
        layers.Flatten(),
        layers.Dense(32, activation="relu", name="hidden"),
        layers.Dense(10, name="logits"),
    ]
    return keras.Sequential(stack, name="student")


def train_alone(images, labels, epochs):
    student = make_student()
    student.compile(keras.optimizers.Adam(5e-3), classification_loss())
    student.fit(images, labels, batch_size=50, epochs=epochs, verbose=0)
    return accuracy(student)


results = {}


def record(name, train, *args, **kwargs):
    scores = results[name] = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        scores.append(train(*args, **kwargs))
    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    print(f"{name}: {np.mean(scores):.1f} ± {spread:.1f} %")


print(f"student: {make_student().count_params():,} weights")
record("alone, 100 labels", train_alone, few_images, few_labels, 200)
record("alone, 1,000 labels", train_alone, train_images, train_labels, 40)

"""
(Mean and standard deviation over the seeds.) The last line is for comparison
only: what the student could do if we had all the labels. We hope to close the
gap between the two without them.

## Distillation in three lines

A `kd.Distiller` is a Keras model made of a teacher and a student. You compile
it and fit it like any other. Without further arguments it is the method of
[Hinton, Vinyals and Dean (2015)](https://arxiv.org/abs/1503.02531):

```
loss = 0.1 * cross-entropy with the labels
     + 0.9 * divergence from the teacher's soft targets, at temperature 4
```

*Soft targets* are the teacher's probabilities. What the temperature does to
them comes below.
"""

keras.utils.set_random_seed(0)
student = make_student()
distiller = kd.Distiller(teacher, student)
agreement = kd.metrics.TeacherAgreement()
distiller.compile(
    keras.optimizers.Adam(5e-3),
    classification_loss(),
    metrics=["accuracy", agreement, kd.metrics.TeacherDivergence()],
)

"""
Most distillations that fail do so quietly. So let the distiller look at a few
batches first. `diagnose` takes the data that `fit` takes, and changes nothing:
"""

print(distiller.diagnose(few_images, few_labels, batch_size=50))

"""
The worst comes first, with what to do about it. Here nothing is wrong. Look at
the line on `soft_targets`: the gradient that they give the student is many
times that of the labels. That is what we want, as the labels are few.

Now train. The teacher runs once for each batch, and is not changed.
"""

history = distiller.fit(
    few_images, few_labels, batch_size=50, epochs=200, verbose=0
)

"""
## Reading the logs

Each part of the loss is logged under its own name, already multiplied by its
weight. So the parts add up:
"""

parts = ["hard_loss", "soft_targets_loss", "student_losses"]
last = {key: values[-1] for key, values in history.history.items()}
for key in [*parts, "loss"]:
    print(f"{key:18}{last[key]:.4f}")
print(f"{'sum of the parts':18}{sum(last[key] for key in parts):.4f}")

"""
- `hard_loss` is the loss you compiled, on the labels (the *hard* targets);
- `soft_targets_loss` is the divergence from the teacher;
- `student_losses` are the student's own, such as weight decay by a
  `kernel_regularizer`. Ours has none, so it is 0.

Look here first when the results are worse than expected. A part that is a
hundred times smaller than the others has no effect.

## What the temperature does

Dividing the teacher's logits by a temperature before the softmax makes the
small probabilities larger. Here is a digit on which the teacher is not very
confident.
"""

test_logits = teacher.predict(test_images, batch_size=797, verbose=0)
confidence = scipy.special.softmax(test_logits, axis=-1).max(axis=-1)
doubtful = np.argsort(confidence)[20]

figure, axes = plt.subplots(1, 4, figsize=(11, 2.6))
axes[0].imshow(test_images[doubtful, :, :, 0], cmap="gray_r")
axes[0].set_title(f"label: {test_labels[doubtful]}")
axes[0].axis("off")
for axis, temperature in zip(axes[1:], (1.0, 4.0, 16.0)):
    logits = test_logits[doubtful] / temperature
    axis.bar(range(10), scipy.special.softmax(logits))
    axis.set_title(f"temperature {temperature:g}")
    axis.set_xticks(range(10))
    axis.set_ylim(0, 1)
axes[1].set_ylabel("probability")
figure.tight_layout()
plt.savefig("getting_started_soft_targets.png", dpi=120)
plt.show()

"""
*Figure: Soft targets of one image at three temperatures.*

This 3 looks like an 8, a little like a 9, and not at all like a 0. Temperature
1 shows that for this doubtful digit. For most digits the teacher is so
confident that all other classes are near 0. At 4 the similar classes can be
seen for all digits. At 16 the ten classes are almost equal.

To choose a temperature, write the default out. A `Transfer` is one distillation
term: a loss between teacher and student, and its weight. `hard_weight` is the
weight of the loss on the labels. The weights need not add up to 1. The loss is
multiplied by the square of the temperature. That keeps its gradient at about
the same size, so a new temperature needs no new weights.
"""


def distill(images, labels, epochs, temperature=4.0):
    transfer = kd.Transfer(kd.losses.SoftTargets(temperature), weight=0.9)
    distiller = kd.Distiller(
        teacher, make_student(), [transfer], hard_weight=0.1
    )
    # Without labels there is no loss to compile.
    loss = None if labels is None else classification_loss()
    distiller.compile(keras.optimizers.Adam(5e-3), loss)
    distiller.fit(images, labels, batch_size=50, epochs=epochs, verbose=0)
    return accuracy(distiller.student)


for temperature in (4.0,) if TRIAL else (1.0, 4.0, 16.0):
    name = f"100 labels, T={temperature:g}"
    record(name, distill, few_images, few_labels, 200, temperature)

"""
The middle one is the default, and good for few images and a sure teacher, as
here: [the rule](../choose.md#which-temperature). Between 4 and 16 there is
hardly a difference. At 1 the student gains less: the teacher is confident on
nearly all the images that it was trained on, and then its predictions contain
little more than the labels.

## Images without labels

The teacher can predict any image. So use all 1,000, and leave the labels out:
compile with `loss=None`, and call `fit` with the images alone. For comparison
only, we also do the same with all labels.
"""

record("no labels, 1,000 images", distill, train_images, None, epochs=40)
record("1,000 labels, T=4", distill, train_images, train_labels, epochs=40)

"""
## What we found
"""

figure, axis = plt.subplots(figsize=(8, 3.2))
for row, scores in enumerate(results.values()):
    axis.plot(scores, [row] * len(scores), "o", alpha=0.6)
    axis.plot(np.mean(scores), row, "k|", markersize=18)
axis.axvline(accuracy(teacher), color="0.5", ls=":", label="teacher")
axis.set_yticks(range(len(results)), list(results))
axis.invert_yaxis()
axis.set_xlabel("test accuracy (%): a dot for each seed, a bar for the mean")
axis.grid(axis="x", alpha=0.3)
axis.legend()
figure.tight_layout()
plt.savefig("getting_started.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy of the students.*

With the same 100 images, the teacher's predictions gain six points: 94.0 % in
place of 87.7 %. All 1,000 images gain one more, without any label: 95.4 %.

And what if you have all the labels? Then the student alone is best here: 97.0
%, against 95.8 % when distilled for as many epochs. It comes within half a
point of its teacher, so there is little left to learn from it. Distillation
pays where the teacher has information that your labels do not contain. Always
train the student alone, too, and compare: [Is distillation worth
it?](is_it_worth_it.ipynb) is about that.

## Does the student follow its teacher?

Accuracy compares the student with the labels. Two metrics compare it with the
teacher, and need no labels:

- `kd.metrics.TeacherAgreement`: how often both predict the same class;
- `kd.metrics.TeacherDivergence`: how far apart their probabilities are. It
  always uses temperature 1, whatever the temperature of training, so it can be
  compared between runs. 0 means equal probabilities.

They are given to `compile`, as we did for our first distiller.
"""

scores = distiller.evaluate(
    test_images, test_labels, batch_size=797, verbose=0, return_dict=True
)
for key in ("accuracy", "teacher_agreement", "teacher_divergence"):
    print(f"{key:20}{scores[key]:.3f}")

"""
If agreement is high and accuracy is low, the teacher is wrong. If agreement is
low on the *training* images, the student is too small, or was not trained for
long enough. Distillation often needs more epochs than training on labels.

## Save the student

`distiller.student` is the model that you passed in. It holds no reference to
its teacher. This is the model to save and to use:
"""

distiller.student.save("student.keras")
print(f"{accuracy(keras.saving.load_model('student.keras')):.1f} %")

"""
With the callback `kd.callbacks.EpochBackup("backup")` a run that was killed
continues where it was when it is started again, bit for bit.

## Usual mistakes

**The teacher ends in a softmax.** Then its outputs are probabilities, and
dividing them by a temperature would make all classes almost equal. Where the
distiller can see the softmax, it reads what goes into it, and reports that in a
warning:
"""

softmaxed = keras.Sequential([teacher, layers.Softmax()], name="softmaxed")
mistaken = kd.Distiller(softmaxed, make_student())
mistaken.compile("adam", classification_loss())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    mistaken.fit(few_images, few_labels, epochs=1, verbose=0)
for warning in caught:
    if "probabilities" in str(warning.message):
        print(warning.message)

"""
**Other augmented images for the teacher.** This gives no message. Augment in
the data pipeline, before the distiller, so that both models get the same image.

## Conclusion

`kd.Distiller(teacher, student)` is all it takes to begin. Compile it, fit it,
and save `distiller.student`. Watch the parts of the loss and the agreement with
the teacher. More images, with labels or without, and more epochs gain most; the
temperature comes after that.

Next: [Is distillation worth it?](is_it_worth_it.ipynb). Then [Caching teacher
predictions](cached_predictions.ipynb), if the teacher is slow, [Features and
attention](features_and_attention.ipynb) to learn from hidden layers, and
[Distillation without data](without_data.ipynb), when only the teacher is left.
"""
