"""
Title: Caching teacher predictions
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/30
Description: Run the teacher once, and train from its stored predictions.
Accelerator: None
Needs: pip install ".[jax,tensorflow,examples]"
"""

"""
## Introduction

A distiller runs its teacher on every batch, in every epoch. So most of the time
is spent on a model that is not trained, and whose predictions don't change. So
run the teacher once, and store its logits (*offline distillation*). There are
several ways to get this wrong:

- **The images do change.** With random augmentation, the stored prediction is
  for another image than the one that the student gets.
- **Predictions by step.** Stored in the order of the first epoch, they belong
  to the wrong images from the second epoch on.
- **The wrong predictions.** The teacher was trained further, or the data was
  sorted again.

`keras_kd.cache` stores each prediction by its *sample index*, makes random
augmented images that can be repeated, can store less than all logits, and
raises an error if teacher, data and cache don't belong together. In this guide
you will plan a cache and write it, train from it and measure the time that it
saves, make it smaller, and augment images, the wrong way and the right way.

You should know [Getting started](getting_started.ipynb). MNIST is downloaded.
"""

import functools
import pathlib
import tempfile
import textwrap
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_datasets as tfds
from keras import layers

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and few of the settings.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)
EPOCHS = 60
FOLDER = pathlib.Path(tempfile.mkdtemp())

"""
## Data, teacher and student

Handwritten digits of 28x28 pixels. Someone else has 5,000 of them with labels,
and has trained a teacher. We have the teacher, and 1,000 images of our own, of
which 100 have labels. 2,000 others are for the test.
"""


def mnist(split):
    data = tfds.load("mnist", split=split, batch_size=-1, as_supervised=True)
    images, labels = tfds.as_numpy(data)
    return images.astype("float32") / 255, labels


images, labels = mnist("train[:6000]")
our_images, few_labels = images[5000:], labels[5000:5100]
test_images, test_labels = mnist("test[:2000]")

"""
MNIST's digits are centered. Images from a real scanner are not. So every
student is tested twice: on the test images as they are, and on the same images
moved by up to three pixels in each direction. The function that moves them
takes two numbers between 0 and 1 for each image. We will need that form later.
"""


def move(images, uniforms):
    padded = np.pad(images, [(0, 0), (3, 3), (3, 3), (0, 0)])
    top, left = (7 * uniforms[:, :2]).astype(int).T
    number = np.arange(len(images))[:, None, None]
    rows = (top[:, None] + np.arange(28))[:, :, None]
    columns = (left[:, None] + np.arange(28))[:, None, :]
    return padded[number, rows, columns]


generator = np.random.default_rng(0)
moved_test_images = move(test_images, generator.random((2000, 2)))

"""
The teacher is a convolutional network, trained on moved images: eight copies of
each. The student has one hidden layer. Both return logits.
"""


def make_teacher():
    conv = functools.partial(
        layers.Conv2D, kernel_size=3, padding="same", activation="relu"
    )
    stack = [keras.Input((28, 28, 1))]
    stack += [conv(16, strides=2), conv(32, strides=2), conv(64)]
    stack += [layers.Flatten(), layers.Dropout(0.5)]
    stack += [layers.Dense(64, activation="relu"), layers.Dense(10)]
    return keras.Sequential(stack, name="teacher")


def make_student():
    stack = [keras.Input((28, 28, 1)), layers.Flatten()]
    stack += [layers.Dense(64, activation="relu"), layers.Dense(10)]
    return keras.Sequential(stack, name="student")


def settings():
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return {"optimizer": keras.optimizers.Adam(2e-3), "loss": cross_entropy}


def accuracy(model, images):
    logits = model.predict(images, batch_size=1000, verbose=0)
    return 100 * np.mean(logits.argmax(axis=-1) == test_labels)


keras.utils.set_random_seed(0)
teacher = make_teacher()
teacher.compile(**settings())
teacher.fit(
    move(np.tile(images[:5000], (8, 1, 1, 1)), generator.random((40_000, 2))),
    np.tile(labels[:5000], 8),
    batch_size=50,
    verbose=0,
)
for model in (teacher, make_student()):
    print(f"{model.name}: {model.count_params():,} weights")

"""
## Plan

Before you write to the disk, plan how much it will take. `cache.plan` runs the
teacher on a part of the data, and writes nothing.
"""

plan = kd.cache.plan(
    teacher, our_images, epochs=EPOCHS, batch_size=50, verbose=0
)
for line in str(plan).splitlines():
    print(textwrap.fill(line, 80))

"""
It recommends float16, and prints the call that does it. Of each encoding you
see the size of a sample, and how far its soft targets are from the full ones
(KL divergence, in nats): the mean, and the worst sample. float16 loses almost
nothing. Top-k is for hundreds of classes. Times are a rough estimate.

## Write

The samples of arrays have the indices 0, 1, 2... Large data comes in batches
from a pipeline (`tf.data`, a `PyDataset`, Grain, a PyTorch `DataLoader`, a
generator), in any order. Then each batch must contain the indices of its
samples: `(images, {"sample_index": indices})`.

If `write` is interrupted, or the process is killed, make the same call again:
what is on the disk is kept. A cache that is not complete can't be opened.
"""

kd.cache.write(
    teacher,
    our_images,
    FOLDER / "predictions",
    metadata={"dataset_id": "MNIST, ours"},
    verbose=0,
)
predictions = kd.cache.open(FOLDER / "predictions", teacher=teacher)

"""
`cache.open` has checked that the predictions were made with the present weights
of the teacher. Another teacher is refused:
"""


def try_to(action):
    try:
        action()
    except ValueError as error:
        print(textwrap.fill(str(error).replace(str(FOLDER), "."), 80))


try_to(lambda: kd.cache.open(FOLDER / "predictions", teacher=make_teacher()))

"""

## Train

Use the predictions in place of the teacher. Each batch must contain its
predictions, so `join` them to the images. With a `seed` the images are shuffled
in each epoch, together with their predictions. We use no labels here; they can
be joined as well: `predictions.join(images, labels)`.
"""


def distill(seed, teacher, data):
    keras.utils.set_random_seed(seed)
    loss = kd.losses.SoftTargets(temperature=4.0)
    distiller = kd.Distiller(teacher, make_student(), loss)
    distiller.compile(keras.optimizers.Adam(2e-3))
    distiller.fit(data, epochs=EPOCHS, verbose=0)
    return distiller.student


def distill_cached(seed, predictions, x=our_images):
    data = predictions.join(x, batch_size=50, seed=seed)
    return distill(seed, predictions, data)


print(f"teacher: {accuracy(teacher, test_images):.1f} %")
student = distill_cached(0, predictions)
print(f"student: {accuracy(student, test_images):.1f} %")

"""
## How much time it saves

We time the student alone, with its *live* teacher, which runs in each step, and
with the cache. The three take turns, so that other programs on the machine
affect all of them.
"""

timed = {
    "student alone": make_student(),
    "live teacher": kd.Distiller(teacher, make_student()),
    "cache": kd.Distiller(predictions, make_student()),
}
sample_index = np.tile(np.arange(1000), 5)
x, y = our_images[sample_index], labels[5000:][sample_index]
from_cache = predictions.join(x, y, batch_size=50, sample_index=sample_index)


def milliseconds_per_step(name):
    data = {"x": from_cache} if name == "cache" else {"x": x, "y": y}
    start = time.perf_counter()
    timed[name].fit(**data, batch_size=50, verbose=0)
    return 10 * (time.perf_counter() - start)


for name, model in timed.items():
    model.compile(**settings())
    milliseconds_per_step(name)  # Compiles the step.
rounds = [[milliseconds_per_step(name) for name in timed] for _ in range(5)]
for name, least in zip(timed, np.min(rounds, axis=0)):
    print(f"{name:14}{least:6.2f} ms a step")

"""
The live teacher makes a step five times as long, the cache less than twice:
there is a second loss, and predictions are read in Python. With a larger
student that is a smaller part. And the teacher's memory is free.

## Make it smaller

What do you lose if you store less? `Dense("float16")` is the default. `TopK(k)`
stores the k likeliest classes, and one number for all the others: their total
probability, which is exact at the temperature that you give.

We train from these, with the live teacher, and alone on our 100 labels, each
from three seeds: mean and standard deviation of the test accuracy in percent.
"""


def record(name, train, *arguments):
    students = [train(seed, *arguments) for seed in SEEDS]
    scores = [
        [accuracy(student, x) for x in (test_images, moved_test_images)]
        for student in students
    ]
    means, spreads = np.mean(scores, axis=0), np.std(scores, axis=0)
    columns = [f"{m:5.1f} ± {s:.1f}" for m, s in zip(means, spreads)]
    print(f"{name:20}" + "   ".join(columns))


def train_alone(seed):
    keras.utils.set_random_seed(seed)
    student = make_student()
    student.compile(**settings())
    x = our_images[:100]
    student.fit(x, few_labels, batch_size=50, epochs=10 * EPOCHS, verbose=0)
    return student


data = predictions.join(our_images, batch_size=50, seed=0)
print(f"{'':20} test          moved")
record("alone, 100 labels", train_alone)
record("live teacher", lambda seed: distill(seed, teacher, data))
encodings = {
    "float16": kd.cache.Dense("float16"),
    "top 4": kd.cache.TopK(4, temperature=4.0),
    "top 1": kd.cache.TopK(1, temperature=4.0),
}
for name, encoding in encodings.items():
    path = FOLDER / name
    kd.cache.write(teacher, our_images, path, outputs=encoding, verbose=0)
    size = encoding.bytes_per_sample((10,))
    record(f"{name}, {size} bytes", distill_cached, kd.cache.open(path))

"""
With float16 the students are as good as with the live teacher, and 18 points
better than alone. Top 4 is as good on the test images, but two points worse on
the moved ones. Top 1 is little more than a label for each image: it loses six
points there.

## Augmented views that can be repeated

This is where most caches go wrong. We want to train on moved digits, and on
mixtures of two. A mixture has no label, but the teacher can predict it. First
the wrong way: augment the images, and join the predictions for the images as
they were.
"""


def mix(images, uniforms):
    partners = our_images[(1000 * uniforms[:, 2]).astype(int)]
    fraction = uniforms[:, 3].reshape(-1, 1, 1, 1)
    return move(fraction * images + (1 - fraction) * partners, uniforms)


mixed_images = mix(our_images, generator.random((1000, 4)))
try_to(lambda: predictions.join(mixed_images))

"""
The cache has checksums of some images, and these are others.

The right way is `cache.AugmentedViews`. It makes `count` augmented views of
each image, from random numbers that depend on the seed, the sample index and
the number of the view. So the views are the same for the teacher today and for
the student next week, and no pixel is stored.
"""


def views_of(augment, count):
    return kd.cache.AugmentedViews(
        our_images, augment=augment, draws=4, count=count, seed=0
    )


figure, axes = plt.subplots(3, 8, figsize=(8, 3.2))
rows = {"image": our_images[:8]}
for augment in (move, mix):
    rows[augment.__name__], _ = views_of(augment, 1).batch(range(8), view=0)
for (name, pictures), row in zip(rows.items(), axes):
    row[0].set_ylabel(name)
    for axis, picture in zip(row, pictures):
        axis.imshow(picture[:, :, 0], cmap="gray_r")
        axis.set(xticks=[], yticks=[])
figure.tight_layout()
plt.savefig("cached_predictions.png", dpi=120)
plt.show()

"""
*Figure: Eight images, and an augmented view of each, moved and mixed.*

`write` and `join` take the augmented views in place of the images. Each epoch
uses the next view, and after the last one it begins again. We try one view and
60, for 60 epochs. For comparison, also the wrong way with one mixture of each
image, the check switched off.
"""

for augment, count in ((move, 1), (move, EPOCHS), (mix, 1), (mix, EPOCHS)):
    name, views = f"{augment.__name__}, count={count}", views_of(augment, count)
    kd.cache.write(teacher, views, FOLDER / name, verbose=0)
    record(name, distill_cached, kd.cache.open(FOLDER / name), views)
    if TRIAL:
        break
unchecked = kd.cache.open(FOLDER / "predictions", check_inputs=False)
record("mix, the wrong way", distill_cached, unchecked, mixed_images)

"""
**The wrong way costs most.** In half of the mixtures, the other digit is the
stronger one. Without the check there is no error, and 49.8 % in place of 79.4 %
with the right predictions for one mixture of each image.

**Augmented views help on images like themselves.** Moved, 60 views of each
image bring the moved test images from 50.7 to 89.2 %, without one more label.
The centered ones gain two points.

**One view is not enough.** A single moved view of each image, the same in each
epoch, costs eight points on the centered digits. And mixing does not help here:
choose augmentations like the images in use.

## Conclusion

Run the teacher once, and store its predictions by sample index. Plan first.
Store float16, and top-k if there are many classes. If you augment, use
`cache.AugmentedViews`, and leave the check of the inputs on.

Before: [Is distillation worth it?](is_it_worth_it.ipynb) Next: [Features and
attention](features_and_attention.ipynb). The API:
`kd.cache.write`, `kd.cache.AugmentedViews`. Many
writers on a cluster: `examples/teacher_predictions_with_ray.py`.
"""
