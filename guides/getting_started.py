"""
Title: Getting started with knowledge distillation
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/21
Description: Train a small model with the help of a large one, step by step.
Accelerator: None
"""

"""
## Introduction

A large model is accurate but expensive to run. A small model is cheap to run
but less accurate. **Knowledge distillation** trains the small one, the
*student*, on the predictions of the large one, the *teacher*.

Why should predictions be better than labels? A label means "this is a 7". A
teacher's prediction means "probably a 7, perhaps a 1, and surely not an 8". So
one image carries ten numbers in place of one, and images without any label can
be used, too.

In this guide you will

- train a teacher and a student, and see what the student can do alone;
- distill in three lines, and read the logs;
- choose a temperature and a weight, and let them change during training;
- distill on images that have no labels;
- measure how closely a student follows its teacher;
- save the student, and resume an interrupted run;
- see the usual mistakes, and how the library reports them.

All of it runs on a laptop's CPU in a few minutes, on TensorFlow, JAX or
PyTorch.

```shell
pip install ".[jax,examples]"  # in a clone of the repository
```
"""

import os
import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from keras import ops
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and one value of each setting.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)

"""
## The data

scikit-learn ships 1,797 scanned digits of 8x8 pixels. We keep 797 of them for
the test.

This is the situation that distillation is made for. Someone trained a good
model on 1,000 labeled images, and gave us the model. We have only 100 of the
labels. We may use the other 900 images, but we don't have their labels.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))

train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=797, stratify=labels, random_state=0
)
few_images, _, few_labels, _ = train_test_split(
    train_images,
    train_labels,
    train_size=100,
    stratify=train_labels,
    random_state=0,
)

"""
## The teacher

A small convolutional network. Note its last layer: it has no activation, so the
model returns *logits*. Distillation works on logits, so the loss gets
`from_logits=True`.
"""


def make_teacher():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(10)(x)
    return keras.Model(inputs, outputs, name="teacher")


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


keras.utils.set_random_seed(0)
teacher = make_teacher()
teacher.compile("adam", classification_loss(), metrics=["accuracy"])
teacher.fit(
    train_images,
    train_labels,
    validation_data=(test_images, test_labels),
    batch_size=50,
    epochs=20,
    verbose=2,
)

"""
The teacher is right on about 97 % of the test images, with 29,066 weights.

## The student, alone

One hidden layer of 32 units: 2,410 weights, twelve times fewer. We will train
it in several ways, and measure it by the same function each time. The accuracy
of such small networks varies with the random start, by more than some methods
differ. So everything is run from three seeds.
"""


def make_student():
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    x = layers.Dense(32, activation="relu", name="hidden")(x)
    outputs = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name="student")


def accuracy(model):
    predictions = model.predict(test_images, batch_size=797, verbose=0)
    return 100 * np.mean(np.argmax(predictions, axis=-1) == test_labels)


def train_alone(images, labels, epochs):
    student = make_student()
    student.compile(keras.optimizers.Adam(5e-3), classification_loss())
    student.fit(images, labels, batch_size=50, epochs=epochs, verbose=0)
    return accuracy(student)


results = {}


def record(name, train, *args, **kwargs):
    scores = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        scores.append(train(*args, **kwargs))
    results[name] = scores
    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    print(f"{name}: {np.mean(scores):.1f} +- {spread:.1f} %")


record("alone, 100 labels", train_alone, few_images, few_labels, epochs=200)
record(
    "alone, 1,000 labels", train_alone, train_images, train_labels, epochs=40
)

"""
The second line is for comparison only: what the student could do if we had all
the labels. We hope to close the gap between the two without them.

## Distillation in three lines

A `kd.Distiller` is a Keras model made of a teacher and a student. You compile
it and fit it like any other. Without further arguments it is the method of
[Hinton, Vinyals and Dean (2015)](https://arxiv.org/abs/1503.02531):

```
loss = 0.1 * cross-entropy with the labels
     + 0.9 * divergence from the teacher's soft targets, at temperature 4
```
"""

keras.utils.set_random_seed(0)
student = make_student()
distiller = kd.Distiller(teacher, student)
distiller.compile(
    optimizer=keras.optimizers.Adam(5e-3),
    loss=classification_loss(),
    metrics=[
        "accuracy",
        kd.metrics.TeacherAgreement(),
        kd.metrics.TeacherDivergence(),
    ],
)

"""
Most distillations that fail do so quietly. So let the distiller look at a few
batches first. `diagnose` takes the data that `fit` takes, and changes nothing:
"""

print(distiller.diagnose(few_images, few_labels, batch_size=50))

"""
The worst comes first, with what to do about it. Here nothing is wrong. The
teacher is right on 97 or 98 of these 100 images, and the soft targets give the
student a gradient about twenty times that of the labels. The end of the table
is on the temperature, which we will come to.

Now train:
"""

history = distiller.fit(
    few_images,
    few_labels,
    validation_data=(test_images, test_labels),
    batch_size=50,
    epochs=200,
    verbose=0,
)

"""
The teacher is not changed by this. It runs once for each batch, in inference
mode; its weights get no gradient, and its `trainable` flag stays as it was.

`print(distiller)` shows what is trained, and how:
"""

print(distiller)

"""
## Reading the logs

Each part of the loss is logged under its own name, already multiplied by its
weight. So the parts add up:
"""

last = {key: values[-1] for key, values in history.history.items()}
for key in ("hard_loss", "soft_targets_loss", "student_losses", "loss"):
    print(f"{key:18}{last[key]:.4f}")
parts = ["hard_loss", "soft_targets_loss", "student_losses"]
print(f"{'sum of the parts':18}{sum(last[key] for key in parts):.4f}")

"""
- `hard_loss` is the loss you compiled, on the labels;
- `soft_targets_loss` is the divergence from the teacher; every further transfer
  adds a line of its own;
- `student_losses` are the student's own, such as weight decay by a
  `kernel_regularizer`. Ours has none, so it is 0.

Look here first when the results are worse than expected. A part that is a
hundred times smaller than the others has no effect.

## What the temperature does

Dividing the teacher's logits by a temperature before the softmax makes the
small probabilities larger. Here is a digit on which the teacher is not very
confident.
"""

test_logits = ops.convert_to_tensor(
    teacher.predict(test_images, batch_size=797, verbose=0)
)
probabilities = ops.convert_to_numpy(ops.softmax(test_logits))
doubtful = int(np.argsort(np.max(probabilities, axis=-1))[20])

figure, axes = plt.subplots(1, 4, figsize=(11, 2.6))
axes[0].imshow(test_images[doubtful, :, :, 0], cmap="gray_r")
axes[0].set_title(f"label: {test_labels[doubtful]}")
axes[0].axis("off")
for axis, temperature in zip(axes[1:], (1.0, 4.0, 16.0)):
    softened = ops.softmax(test_logits[doubtful] / temperature)
    axis.bar(range(10), ops.convert_to_numpy(softened))
    axis.set_title(f"temperature {temperature:g}")
    axis.set_xticks(range(10))
    axis.set_ylim(0, 1)
axes[1].set_ylabel("probability")
figure.tight_layout()
plt.savefig("getting_started_soft_targets.png", dpi=120)
plt.show()

"""
*Figure: Soft targets at three temperatures.*

The 3 looks a little like a 9 and a 5, and not at all like a 0. At temperature 1
the teacher's probabilities show that for this doubtful digit. For most digits
it is so confident that all other classes are near 0. At 4 the similar classes
can be seen for all digits. At 16 the ten classes are almost equal.

The loss is multiplied by the square of the temperature. That keeps its gradient
at about the same size, so you can change the temperature without new weights.

## Choosing temperature and weight

To choose for yourself, write the default out. A `Transfer` is one term of the
loss between teacher and student: a loss, and its weight. `hard_weight` is the
weight of the loss on the labels. The weights need not add up to 1.
"""


def distill(
    images, labels, epochs, temperature=4.0, weight=0.9, hard_weight=0.1
):
    transfer = kd.Transfer(kd.losses.SoftTargets(temperature), weight=weight)
    distiller = kd.Distiller(
        teacher, make_student(), [transfer], hard_weight=hard_weight
    )
    # Without labels there is no loss to compile.
    loss = None if labels is None else classification_loss()
    distiller.compile(keras.optimizers.Adam(5e-3), loss)
    distiller.fit(images, labels, batch_size=50, epochs=epochs, verbose=0)
    return accuracy(distiller.student)


for temperature in (4.0,) if TRIAL else (1.0, 4.0, 16.0):
    record(
        f"100 labels, T={temperature:g}",
        distill,
        few_images,
        few_labels,
        epochs=200,
        temperature=temperature,
    )

"""
The middle one is the default, and a good first choice: on JAX 94.4 %, against
92.8 % at temperature 1. Between 4 and 16 there is hardly a difference. The
teacher is confident on nearly all the images that it was trained on. At
temperature 1 its predictions then contain little more than the labels.

The weight is chosen in the same way. If you trust the labels less than the
teacher, lower `hard_weight`, down to 0.

## Images without labels

The teacher can predict any image. So use all 1,000, and leave the labels out:
compile with `loss=None`, and call `fit` with the images alone.
"""

record(
    "no labels, 1,000 images",
    distill,
    train_images,
    None,
    epochs=40,
    weight=1.0,
)

"""
For comparison only: the same with all labels.
"""

record("1,000 labels, T=4", distill, train_images, train_labels, epochs=40)

"""
## What we found

Test accuracy in percent, mean and standard deviation over three seeds, on a
CPU. The teacher is one run on each backend.

| student                   | JAX         | PyTorch     | TensorFlow  |
|---------------------------|-------------|-------------|-------------|
| alone, 100 labels         | 90.8 +- 0.5 | 91.2 +- 0.2 | 91.3 +- 0.3 |
| 100 labels, T=1           | 92.8 +- 0.4 | 93.1 +- 0.3 | 93.4 +- 0.3 |
| 100 labels, T=4           | 94.4 +- 0.3 | 95.4 +- 0.3 | 94.7 +- 0.2 |
| 100 labels, T=16          | 94.3 +- 0.4 | 95.3 +- 0.3 | 94.3 +- 0.3 |
| no labels, 1,000 images   | 95.5 +- 0.3 | 96.4 +- 0.1 | 95.4 +- 0.3 |
| 1,000 labels, T=4         | 95.8 +- 0.2 | 96.4 +- 0.1 | 95.5 +- 0.3 |
| alone, 1,000 labels       | 97.0 +- 0.3 | 97.1 +- 0.2 | 97.0 +- 0.1 |
| teacher                   | 97.4        | 98.2        | 97.5        |
"""

figure, axis = plt.subplots(figsize=(8, 3.2))
for row, scores in enumerate(results.values()):
    axis.plot(scores, [row] * len(scores), "o", alpha=0.6)
    axis.plot(np.mean(scores), row, "k|", markersize=18)
axis.set_yticks(range(len(results)), list(results))
axis.invert_yaxis()
axis.set_xlabel("test accuracy (%): a dot for each seed, a bar for the mean")
axis.grid(axis="x", alpha=0.3)
figure.tight_layout()
plt.savefig("getting_started.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy of the students.*

With the same 100 images, the teacher's predictions gain three to four points.
The 900 images without labels gain about one more.

And what if you have all the labels? Then the student alone is best here: 97.0
%, against 95.8 % when distilled for as many epochs. It comes within about a
point of its teacher, so there is little left to learn from it. Distillation
pays where the teacher has information that your labels do not contain. Always
train the student alone, too, and compare.

## Does the student follow its teacher?

Accuracy compares the student with the labels. Two metrics compare it with the
teacher, and need no labels:

- `kd.metrics.TeacherAgreement`: how often both predict the same class;
- `kd.metrics.TeacherDivergence`: how far apart their probabilities are. It
  always uses temperature 1, whatever the temperature of training, so it can be
  compared between runs. 0 means equal probabilities.

Give them to `compile` like other metrics, as we did for our first distiller.
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

## A temperature that changes

Some begin with a high temperature and end with a low one. There are two ways. A
callback counts in epochs:
"""

annealed = kd.Distiller(teacher, make_student())
annealed.compile(
    optimizer=keras.optimizers.Adam(5e-3), loss=classification_loss()
)
history = annealed.fit(
    few_images,
    few_labels,
    batch_size=50,
    epochs=5,
    callbacks=[kd.callbacks.TemperatureAnnealing(8.0, 1.0, epochs=5)],
    verbose=0,
)
print(history.history["soft_targets_temperature"])

"""
A schedule counts in training steps. Use it in place of the number:

```python
temperature = kd.schedules.Annealing(8.0, 1.0, steps=400, curve="cosine")
kd.Transfer(kd.losses.SoftTargets(temperature), weight=0.9)
```

Any `keras.optimizers.schedules.LearningRateSchedule` works as well, also for
`weight` and `hard_weight`. And `kd.callbacks.WeightAnnealing` changes a weight
by epochs. Values that change are logged, as above. Nothing is compiled again.

## Save the student

`distiller.student` is the model that you passed in. It holds no reference to
its teacher. This is the model to save and to use:
"""

distiller.student.save("student.keras")
shipped = keras.saving.load_model("student.keras")
print(f"{accuracy(shipped):.1f} %")

"""
## Resume an interrupted run

Long runs get interrupted. `kd.callbacks.EpochBackup` keeps all that a run needs
to continue: student, optimizer, temperatures that change, random numbers, and
what other callbacks count, which are given to it. We interrupt a run in the
third epoch.
"""


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt("in the third epoch")


def make_distiller():
    distiller = kd.Distiller(teacher, make_student())
    distiller.compile(
        optimizer=keras.optimizers.Adam(5e-3), loss=classification_loss()
    )
    return distiller


def fit_with_backup(distiller, callbacks=()):
    return distiller.fit(
        few_images,
        few_labels,
        batch_size=50,
        epochs=5,
        callbacks=[kd.callbacks.EpochBackup("backup", callbacks)],
        verbose=0,
    )


try:
    fit_with_backup(make_distiller(), [Interrupt()])
except KeyboardInterrupt as error:
    print(f"Interrupted: {error}")

history = fit_with_backup(make_distiller())
print(f"Epochs before and after the restart: {history.epoch}")

"""
The process may also be killed, at any moment. In a program that gives the same
result each time that it is run (`keras.utils.set_random_seed`), the student is
then bit for bit the same as without an interruption, with shuffled data, too.
It works for any Keras model. Keras' own `BackupAndRestore` does not: killed
while it saves, it repeats an epoch or can't continue.

A whole distiller can be saved and loaded as well. The teacher is not in the
file, as it would make the file large. The file holds a *fingerprint* of the
teacher (a hash of its weights), so that you can't continue with another teacher
by mistake. Set the teacher of the loaded distiller, and it continues where it
stopped.
"""

distiller.save("distiller.keras")
loaded = keras.saving.load_model("distiller.keras")
loaded.set_teacher(teacher)
loaded.fit(few_images, few_labels, batch_size=50, epochs=1, verbose=0)

for file in ("student.keras", "distiller.keras"):
    print(f"{file}: {os.path.getsize(file) / 1024:.0f} KiB")

"""
The distiller's file is larger because it holds the optimizer's state.

## Usual mistakes

**The teacher ends in a softmax.** Then its outputs are probabilities, and
dividing them by a temperature would make all classes almost equal. Where the
distiller can see the softmax, or a sigmoid, it reads what that is given, and
says so at the first batch; where only the values look like probabilities, it
warns:
"""

softmaxed_teacher = keras.Model(
    teacher.inputs, layers.Softmax()(teacher.outputs[0]), name="softmaxed"
)
mistaken = kd.Distiller(softmaxed_teacher, make_student())
mistaken.compile("adam", classification_loss())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    mistaken.fit(few_images, few_labels, epochs=1, verbose=0)
for warning in caught:
    if "probabilities" in str(warning.message):
        print(warning.message)

"""
Follow its advice. The tap `":logits"` reads what the last activation is given
(`"predictions:logits"` that of the layer of this name, as in the classifiers of
`keras.applications`). `SoftTargets(teacher_from_logits=False)` turns
probabilities back into logits; if the *student* ends in a softmax, there is
`student_from_logits=False`. Every loss of logits and both metrics take these
flags. It is better to let the student return logits, and to compile its loss
with `from_logits=True`.

**A misspelled layer.** Transfers may read any layer by name, and names are
easily misspelled:
"""

try:
    kd.Distiller(
        teacher,
        make_student(),
        [
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="flatten",
                student="hiden",
                adapter=kd.layers.FeatureAdapter(),
            )
        ],
    )
except ValueError as error:
    print(error)

"""
**The wrong teacher.** A second teacher of the same shape has other weights, and
a loaded distiller refuses it:
"""

try:
    keras.saving.load_model("distiller.keras").set_teacher(make_teacher())
except ValueError as error:
    print(error)

"""
**A loss, but no labels.** `fit(images)` after `compile(loss=...)` raises an
error. Compile with `loss=None`. The other way round, labels without a loss,
gives a warning.

**Saving the distiller in place of the student.** See above:
`distiller.student.save(...)`.

**Other augmented images for the teacher.** Augment *before* the distiller, in
the data pipeline. Then teacher and student get the same image, and the
teacher's prediction is a prediction of what the student sees.

## Conclusion

`kd.Distiller(teacher, student)` is all it takes to begin. Compile it, fit it,
and save `distiller.student`. Watch the parts of the loss and the agreement with
the teacher. More images, with labels or without, and more epochs gain most; the
temperature comes after that.

Where next:

- *Features and attention*, the next guide: learn from the teacher's hidden
  layers, even when it is built quite differently;
- *Distillation without data*: when only the teacher is left;
- `help(kd.Transfer)` and `help(kd.Tap)`: any loss, between any two layers;
- `help(kd.losses.DistillationLoss)`: write a loss of your own in four lines.
"""
