"""
Title: Distillation without data
Author: keras_kd developers
Date created: 2026/11/29
Last modified: 2026/11/30
Description: Train a student when only the teacher is left; see what it costs.
Accelerator: None
Needs: pip install ".[jax,quickstart]"
"""

"""
## Introduction

Distillation needs no labels, but it needs inputs: images, texts or rows.
Sometimes they are gone: deleted, private, or no longer licensed. Only the
trained teacher is left.

Then inputs can be made from the teacher: by its gradient we can look for an
image that it classifies as a 3. This is **data-free** or **zero-shot**
distillation. Students of such synthetic images are usually worse than those of
real ones. So the first question is whether you need it at all.

In this guide you make images in three ways, and compare them over three seeds
with what costs nothing. Read [Getting started](getting_started.ipynb) first.
"""

import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.datasets import load_sample_images
from sklearn.model_selection import train_test_split

from keras_kd import data_free

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and few of the ways.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)
STEPS = 500

"""
## The teacher that is left

scikit-learn contains 1,797 scanned digits of 8x8 pixels. Someone trained a
teacher on 1,000 of them. The other 797 are for the test.

Three things about the teacher matter later:

- its inputs are **0 to 1**. You can't see this in a model. It is in the code
  that prepared its inputs;
- it has **`BatchNormalization`** layers, which keep the mean and the variance
  of their inputs in training. This is information about the data;
- it returns **logits**. (A softmax at the end would be found, too.)

The student has a quarter of its channels.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))
real_images, test_images, real_labels, test_labels = train_test_split(
    images, labels, test_size=797, stratify=labels, random_state=0
)


def make_model(width, dropout, name):
    inputs = keras.Input((8, 8, 1))
    x = inputs
    for channels in (width, 2 * width):
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation("relu")(x)
        if channels == width:
            x = layers.MaxPooling2D()(x)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x), name=name)


def make_student():
    return make_model(8, 0.0, "student")


keras.utils.set_random_seed(0)
teacher = make_model(32, 0.5, "teacher")
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
teacher.compile("adam", loss, metrics=["accuracy"])
teacher.fit(real_images, real_labels, batch_size=50, epochs=20, verbose=0)
_, accuracy = teacher.evaluate(
    test_images, test_labels, batch_size=797, verbose=0
)
print(f"teacher: {100 * accuracy:.1f} %, {teacher.count_params():,} weights")
print(f"student: {make_student().count_params():,} weights")

"""
## What costs nothing

Before you make anything, try what you have:

- **noise**: random pixels of the right range;
- **other photographs**: they have edges and areas, too. We cut two photographs
  that scikit-learn contains into pieces of 8x8 pixels;
- **a few real images, without labels**. Fifty digits are quickly written and
  scanned. (Ours are from the teacher's own training images. Images from another
  source may be worth less.)

Small sets are shifted by one pixel in each direction: one image gives nine. It
fits digits; for other images take the augmentation that fits them.
"""


def pieces(photo):
    gray = photo[:424, :640].mean(axis=-1, dtype="float32") / 255.0
    return gray.reshape((53, 8, 80, 8)).swapaxes(1, 2).reshape((-1, 8, 8, 1))


photos = np.concatenate(
    [pieces(photo) for photo in load_sample_images().images]
)


def shifted(images):
    steps = (-1, 0, 1)
    return np.concatenate(
        [np.roll(images, (i, j), axis=(1, 2)) for i in steps for j in steps]
    )


print(f"{len(photos):,} pieces of photographs")

"""
## Impressions

The simplest way to make images: begin with noise, and draw the probabilities
that the teacher should predict, such as "mostly 3, a little 8". Then change the
*image* by gradient descent until it does. The teacher's weights stay as they
are. This is zero-shot knowledge distillation
([Nayak et al., 2019](https://arxiv.org/abs/1905.08114)), and it works with any
teacher that has a gradient. Classes with similar weights in the teacher's last
layer are mixed most.
"""

impressions, _ = data_free.impressions(
    teacher,
    500,
    value_range=(0.0, 1.0),
    steps=300,
    batch_size=250,
    learning_rate=1e-2,
    verbose=0,
)

"""
## Inversion

DeepInversion ([Yin et al., 2020](https://arxiv.org/abs/1912.08795)) also
changes the image by gradient descent. In addition, it brings the statistics
inside the teacher close to those that its `BatchNormalization` layers have
kept. So for each layer, a batch resembles a batch of the real data.

Two arguments depend on your images. `jitter` shifts them at random in each
step; the default of 2 pixels is much for a width of 8. And a batch must be
large, as its statistics are compared. With `folder=` each batch is kept as a
file: make the same call again after an interruption, and only missing batches
are made. For a teacher without `BatchNormalization`, which has kept no
statistics, `invert` raises an error.
"""

inverted, _ = data_free.invert(
    teacher,
    500,
    value_range=(0.0, 1.0),
    steps=300,
    batch_size=250,
    jitter=1,
    folder="inversion",
    verbose=0,
)

"""
## A generator, trained with the student

Impressions and inversion make images once, whatever the student does. The third
way trains a *generator*, a network that makes images from random numbers,
together with the student. In DFAD
([Fang et al., 2019](https://arxiv.org/abs/1912.11006)) the generator looks for
images on which teacher and student differ, and the student learns to agree with
the teacher on them.

`data_free.image_generator` is the usual network. Give it the range of the
teacher's inputs. `width` is 128 in the papers; we take 32, for a CPU.
"""


def make_dfad(student):
    generator = data_free.image_generator(
        (8, 8, 1), value_range=(0.0, 1.0), latent_size=32, width=32
    )
    distiller = data_free.dfad(teacher, student, generator)
    distiller.compile(
        keras.optimizers.SGD(0.02, momentum=0.9),
        generator_optimizer=keras.optimizers.Adam(1e-3),
    )
    return distiller


keras.utils.set_random_seed(0)
distiller = make_dfad(make_student())

"""
`fit` takes no data. A step is a *round*: one step of the generator, then five
of the student (`student_steps`).
"""

history = distiller.fit(epochs=5, steps_per_epoch=20, batch_size=100, verbose=0)
for name in ("loss", "generator_loss", "class_entropy"):
    values = "  ".join(f"{value:6.3f}" for value in history.history[name])
    print(f"{name:16}{values}")

"""
- `loss` is the student's: its distance from the teacher on images that are made
  to be hard. It need not fall, as the images change;
- `generator_loss` is here minus the same distance. If it goes to 0, the
  generator finds no more such images;
- `class_entropy` is 2.303 (the logarithm of 10) if all classes are made equally
  often, and 0 if only one is.

None of them is the accuracy. Without real data, you cannot know it.

## Look at the images

Always look at what was made. `sample_sheet` has a row for each class, as
classified by the teacher.
"""

made = {
    "real": real_images[:500],
    "impressions": impressions,
    "inversion": inverted,
    "DFAD": distiller.generate(500),
}
figure, axes = plt.subplots(1, 4, figsize=(11, 3.2), sharey=True)
for axis, (name, samples) in zip(axes, made.items()):
    logits = teacher.predict(samples, batch_size=250, verbose=0)
    sheet = data_free.sample_sheet(samples, logits, value_range=(0.0, 1.0))
    axis.imshow(sheet, cmap="gray")
    axis.set_title(name)
    axis.set_yticks(range(4, 100, 10), range(10))
    axis.set_xticks([])
figure.tight_layout()
plt.savefig("without_data_images.png", dpi=120)
plt.show()

"""
*Figure: Real and synthetic images, a row for each class.*

The synthetic images are no digits. Some impressions of 0 have a ring. Inversion
comes closer: rings, and strokes of a pen. The generator's images are made to be
hard, not to be digits: among 500, one is classified as a 0.

Inverted images may show what was in the training data. If the data is private,
treat these images as private, too.

## The comparison

`compare` trains a student in each way, from each seed, and adds the baselines:
noise (new noise in each step), `unrelated` and `real`. Arrays are distilled by
the teacher's soft targets for 500 steps, at temperature 20, as the targets of
`impressions` are. DFAD, a function that trains the student it is given, gets
1,000 steps. The last way has a mistake: a wrong range, 0 to 255.
"""


def dfad(student):
    distiller = make_dfad(student)
    rounds = 2 * STEPS // distiller.student_steps
    distiller.fit(steps_per_epoch=rounds, batch_size=100, verbose=0)


noise = data_free.noise((8, 8, 1), 5000, value_range=(0.0, 1.0))
ways = {
    "impressions, shifted": shifted(impressions),
    "inversion, shifted": shifted(inverted),
    "DFAD, 1,000 steps": dfad,
    "50 real images": real_images[:50],
    "50 real, shifted": shifted(real_images[:50]),
    "200 real, shifted": shifted(real_images[:200]),
    "noise, 0 to 255": 255.0 * noise,
}
if TRIAL:
    ways = {name: ways[name] for name in ("inversion, shifted",)}

table = data_free.compare(
    teacher,
    make_student,
    ways,
    (test_images, test_labels),
    steps=STEPS,
    batch_size=100,
    value_range=(0.0, 1.0),
    unrelated=photos,
    real=shifted(real_images),
    seeds=SEEDS,
    optimizer=keras.optimizers.Adam(2e-3),
    temperature=20.0,
)
print(table)

"""
## What we found
"""

rows = [row for row in table if row.accuracy]
figure, axis = plt.subplots(figsize=(8, 3.6))
for place, row in enumerate(rows):
    scores = 100 * np.array(row.accuracy)
    axis.plot(scores, [place] * len(scores), "o", alpha=0.6)
    axis.plot(np.mean(scores), place, "k|", markersize=18)
axis.set_yticks(range(len(rows)), [row.name for row in rows])
axis.invert_yaxis()
axis.set_xlabel("test accuracy (%): a dot for each seed, a bar for the mean")
axis.grid(axis="x", alpha=0.3)
figure.tight_layout()
plt.savefig("without_data.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy of the students.*

- **Two hundred real images beat all synthetic ones**: 97.5 %, as good as all
  1,000. Fifty reach 96.0 %, but only with shifts, and 89.5 % without.
- **Inversion** is the best way without data here: 96.6 %. It needs
  `BatchNormalization` in the teacher.
- **DFAD** is close, at 95.7 %, and takes the most time. The papers train for
  ten thousand steps and more, with wider generators.
- **Impressions** need no such layer, and reach 93.6 %.
- **Noise is a strong baseline**: 86.4 %. So the 79.6 % of the photographs is
  no success, although it sounds like one.

Making the impressions and the inverted images takes time, too: once, for all
students.

## What goes wrong

**The generator makes one class only.** It has collapsed. The loss
`ClassBalance` of DAFL prevents this. Without it:
"""

keras.utils.set_random_seed(0)
pixels = layers.Dense(64, activation="sigmoid")
simple_generator = keras.Sequential(
    [keras.Input((32,)), pixels, layers.Reshape((8, 8, 1))]
)
collapsing = data_free.DataFreeDistiller(
    teacher, make_student(), simple_generator, [data_free.ClassCertainty()]
)
collapsing.compile("adam", generator_optimizer=keras.optimizers.Adam(1e-2))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    history = collapsing.fit(
        epochs=4, steps_per_epoch=50, batch_size=100, verbose=0
    )
for name in ("class_entropy", "loss"):
    print(name, np.round(history.history[name], 3))
for warning in caught:
    if "collapsed" in str(warning.message):
        print(warning.message)

"""
The student's loss falls, as one class is easy to learn: a low loss does not
mean a good student. A milder case gives no warning: look for rows of the sheet
that are nearly empty.

**The range is wrong.** No error can report it: the teacher predicts for any
numbers. The row "noise, 0 to 255" shows what it costs. For inputs that are
standardized, `image_generator` takes `statistics=(mean, deviation)` instead.

**Test data chose the settings.** Without data nobody can choose the best epoch.
Test the last one, as `compare` does. (That shifts help was seen on the test
images here. So do not rely on differences of a point.)

**One seed.** With noise, three students have a standard deviation of 4.1
points. And this is over students only: teacher, impressions and inverted images
are the same for all three.

## Conclusion

Ask first whether there are any real inputs. If not, begin with the baselines.
Invert a teacher that has `BatchNormalization`. For another, train DFAD for
long, or make impressions, and augment them. Look at the images, and report the
baselines beside your number.

Next:

- [how to distil without data](../how_to/without_data.md), with DAFL, ZSKT and
  KegNet; [an example](../examples/zero_shot_mnist.md) compares all on MNIST;
- [a teacher without a gradient](../examples/forest_without_data.md).
"""
