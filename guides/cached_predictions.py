"""
Title: Cached predictions
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/21
Description: Run the teacher once, and train from its stored predictions.
Accelerator: None
"""

"""
## Introduction

A distiller runs its teacher on every batch, in every epoch. The teacher is the
larger of the two models, so most of the time is spent on a model that is not
trained. And its predictions are the same in each epoch: its weights don't
change, and the images don't change.

So run the teacher once, and store its predictions. This is an old idea, and
there are several ways to get it wrong:

- **The images do change.** With random augmentation, the stored prediction is
  for another image than the one that the student gets.
- **Predictions by step.** Stored in the order of the first epoch, they belong
  to the wrong images from the second epoch on.
- **Slower than before.** To read ten thousand small files in a random order can
  take longer than to run the teacher.
- **Too large.** The authors of one paper did not share their teacher's logits,
  as they take 499 GB.
- **The wrong predictions.** The teacher was trained further, or the data was
  sorted again, and the file does not show it.

`keras_kd.cache` stores each prediction by its *sample index*, makes random
augmented views that can be repeated, can store less than all logits, and raises
an error if teacher, data and cache don't belong together. In this guide you
will

- plan a cache, before anything is written;
- write it, interrupt it, and continue;
- train a student from it, and measure how much time that saves;
- make it smaller, and see what the student loses;
- augment the right way, and the wrong way;
- share the work and the cache, and see the usual errors.

If `kd.Distiller(teacher, student)` is new to you, read *Getting started* first.

```shell
pip install ".[jax,examples]"  # in a clone of the repository
```
"""

import pathlib
import shutil
import tempfile
import time

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
EPOCHS = 50
BATCH_SIZE = 20
FOLDER = pathlib.Path(tempfile.mkdtemp())

"""
## Data

The 8x8 digits of scikit-learn. Someone else has 700 of them, with labels, and
has trained a teacher. We have the teacher and 200 images of our own. Of the
rest, 297 are for choosing settings, and 600 for the test.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))


def split(images, labels, size):
    return train_test_split(
        images, labels, train_size=size, stratify=labels, random_state=0
    )


test_images, images, test_labels, labels = split(images, labels, 600)
validation_images, images, validation_labels, labels = split(
    images, labels, 297
)
our_images, their_images, our_labels, their_labels = split(images, labels, 200)
print(len(our_images), len(their_images), len(validation_images))

"""
scikit-learn's digits are centered. Images from a real scanner are not. So every
student is tested twice: on the test images as they are, and on the same images
moved by up to a pixel in each direction. The function that moves them takes the
images and two numbers between 0 and 1 for each. We will need that form later.
"""


def move(images, uniforms):
    # A shift by a part of a pixel mixes two neighbors.
    for axis in (1, 2):
        shift = 2 * uniforms[:, axis - 1].reshape((-1, 1, 1, 1)) - 1
        width = [(1, 1) if a == axis else (0, 0) for a in range(4)]
        padded = np.pad(images, width)
        before, here, after = (
            np.take(padded, range(start, start + 8), axis) for start in range(3)
        )
        images = (
            (1 - np.abs(shift)) * here
            + np.maximum(shift, 0) * before
            + np.maximum(-shift, 0) * after
        ).astype("float32")
    return images


generator = np.random.default_rng(0)
moved_test_images = move(test_images, generator.random((600, 2)))

"""
## Teacher and student

The teacher is a convolutional network, trained on moved images. The student has
one hidden layer. Both return logits.
"""


def make_teacher():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(48, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(96, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(64, activation="relu", name="embedding")(x)
    outputs = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name="teacher")


def make_student():
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    x = layers.Dense(64, activation="relu", name="hidden")(x)
    outputs = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name="student")


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy(model, images, labels):
    logits = model(images, training=False)
    predictions = ops.convert_to_numpy(ops.argmax(logits, axis=-1))
    return 100 * np.mean(predictions == labels)


keras.utils.set_random_seed(0)
teacher = make_teacher()
copies = 15
schedule = keras.optimizers.schedules.CosineDecay(
    2e-3, decay_steps=2 * copies * len(their_images) // 50
)
teacher.compile(keras.optimizers.Adam(schedule), classification_loss())
teacher.fit(
    move(
        np.concatenate([their_images] * copies),
        generator.random((copies * len(their_images), 2)),
    ),
    np.concatenate([their_labels] * copies),
    batch_size=50,
    epochs=2,
    verbose=0,
)
print(f"Teacher: {accuracy(teacher, test_images, test_labels):.1f} %")
print(f"moved:   {accuracy(teacher, moved_test_images, test_labels):.1f} %")
print(f"Weights: {teacher.count_params():,} and", end=" ")
print(f"{make_student().count_params():,} in the student")

"""
## Plan

Before you write to the disk, plan how much it will take. `cache.plan` runs the
teacher on a part of the data, and writes nothing.
"""

plan = kd.cache.plan(teacher, our_images, epochs=EPOCHS, batch_size=BATCH_SIZE)

"""
```
Recommended: memory (float16, 0.0056 MB: a quarter of the free memory, 15.94 GB,
at most; open it with memory=True).
Run: kd.cache.write(teacher, dataset, 'predictions',
outputs=kd.cache.Dense(dtype='float16'), batch_size=20)
Measured on 200 of 200 samples: the live teacher takes 0.01382 s an epoch, a
cache 0.01382 s to write, so it pays from epoch 2. Nats from the full soft
targets at temperature 4: a mean of 0.0031 is close enough.
float16: 28 B a sample, 0.0056 MB in all; 2.8e-08 nats, 1.4e-07 at worst
top-2: 16 B a sample, 0.0032 MB in all; 0.057 nats, 0.33 at worst
top-4: 22 B a sample, 0.0044 MB in all; 0.016 nats, 0.092 at worst
```

(This is from a run on JAX, with long lines broken.)

- *a sample* and *in all*: the size of a prediction, with 8 bytes for the sample
  index. Our data is very small. With the 1,000 classes and 1.28 million images
  of ImageNet, float32 would take 4 kB a sample and 5 GB in all. With 300
  augmented views of each image that becomes 1.5 TB, and 53 GB if only the 32
  likeliest classes are stored.
- *pays from*: the first epoch from which the cache has taken less time in all
  than the live teacher.
- *nats*: how far the stored soft targets are from the full ones, as the mean
  and for the worst sample. float16 loses almost nothing. At temperature 4 the
  plan needs 0.0031 or less, so of ten classes even top-4 leaves out too much.
  Top-k is for hundreds of classes.

`Run:` is the call that does what the plan recommends. Times are measured on
your machine while other programs run, too: take them as a rough estimate.

## Write

`cache.write(teacher, our_images, folder)` would be enough: the samples of
arrays have the indices 0, 1, 2... Large data comes in batches from a pipeline.
Then each batch must contain the indices of its samples, under `"sample_index"`:
"""


def batches(stop_at=None):
    for start in range(0, len(our_images), BATCH_SIZE):
        if start == stop_at:
            raise KeyboardInterrupt(f"before image {start}")
        sample_index = np.arange(start, start + BATCH_SIZE)
        yield our_images[sample_index], {"sample_index": sample_index}


"""
Here the batches come from a generator. A `tf.data` pipeline, a `PyDataset`,
Grain or a PyTorch `DataLoader` work as well, in any order.

The call below is interrupted after 160 of the 200 images. Predictions are
written to the disk in shards, by default of about 16 MB or half a minute. We
have so few that we set shards of 100.
"""

settings = dict(
    outputs=kd.cache.Dense("float32"),
    samples=len(our_images),
    metadata={
        "class_names": [str(digit) for digit in range(10)],
        "preprocessing": "divided by 16",
        "dataset_id": "scikit-learn digits, ours",
    },
    shard_samples=100,
)

try:
    kd.cache.write(teacher, batches(160), FOLDER / "predictions", **settings)
except KeyboardInterrupt as error:
    print(f"\nInterrupted: {error}")

try:
    kd.cache.open(FOLDER / "predictions")
except ValueError as error:
    print(str(error).replace(str(FOLDER), "..."))

"""
A cache that is not complete can't be opened by mistake. To continue, make the
same call again.
"""


def shards_on_disk():
    return len(list(FOLDER.glob("predictions/parts/0/*-*.npy")))


print(f"Shards on the disk: {shards_on_disk()}")
kd.cache.write(teacher, batches(), FOLDER / "predictions", **settings)
print(f"Shards on the disk: {shards_on_disk()}")

predictions = kd.cache.open(FOLDER / "predictions", teacher=teacher)
print(predictions)

"""
The 100 predictions in the finished shard are kept, and the teacher runs on the
other 100 images only. The 60 after them were lost: always less than a shard.
The same holds if the process is killed.

`metadata` is optional: any keys and values. They are stored in the manifest,
and `cache.open` compares them if you give them again.

As we gave `cache.open` the teacher, it has checked that the predictions were
made with the present weights. From here on, the teacher is not needed.

## Train

Use the predictions in place of the teacher. Each batch must contain its
predictions, so `join` them to the images:
"""

keras.utils.set_random_seed(0)
distiller = kd.Distiller(predictions, make_student())
distiller.compile(
    keras.optimizers.Adam(5e-3),
    classification_loss(),
    metrics=["accuracy", kd.metrics.TeacherAgreement()],
)
history = distiller.fit(
    predictions.join(our_images, our_labels, batch_size=BATCH_SIZE, seed=0),
    validation_data=(validation_images, validation_labels),
    epochs=EPOCHS,
    verbose=0,
)
for key, values in history.history.items():
    print(f"{key:24}{values[-1]:.3f}")
print(distiller.evaluate(test_images, test_labels, verbose=0, return_dict=True))

"""
With a `seed` the images are shuffled in each epoch, together with their
predictions. Note that the validation data has no predictions of the teacher. So
`evaluate` reports the loss on the labels (`hard_loss`) and the metrics only,
and no total `loss`; the logs of `fit` have no `val_loss`. A callback such as
`EarlyStopping` then has to monitor `val_hard_loss` or a metric
(`val_accuracy`). If you want the total loss, write a second cache, for the
validation images, and join them with it:

```python
validation_data=stored.join(validation_images, validation_labels, batch_size=99)
```

Is it the same student as with a *live* teacher, one that runs in each step? We
train both from one seed, on the same batches. A live teacher ignores the cached
predictions.
"""


def distill(seed, teacher, data, transfers=None, use_labels=True):
    keras.utils.set_random_seed(seed)
    distiller = kd.Distiller(teacher, make_student(), transfers)
    loss = classification_loss() if use_labels else None
    distiller.compile(keras.optimizers.Adam(5e-3), loss)
    distiller.fit(data, epochs=EPOCHS, verbose=0)
    return distiller.student


def joined(seed, predictions):
    return predictions.join(
        our_images, our_labels, batch_size=BATCH_SIZE, seed=seed
    )


live = distill(0, teacher, joined(0, predictions))
cached = distill(0, predictions, joined(0, predictions))
difference = max(
    np.abs(a - b).max()
    for a, b in zip(live.get_weights(), cached.get_weights())
)
print(f"Largest difference between the weights: {difference:.2g}")

"""
On JAX and TensorFlow it is the same student, to the last bit. On PyTorch its
weights differ by about 1e-6, which is rounding: the last bit of a prediction
depends on its position in the batch there, and on TensorFlow on whether the
batch is much larger than in training (`write` has a `batch_size`, 256 by
default). In a long training such a difference grows, and the students differ as
much as those of two seeds.

## How much time it saves

We time the student alone, with its live teacher, and with the cache. The three
take turns, so that other programs on the machine affect all of them.
"""

alone = make_student()
timed = {"student alone": alone}
timed["live teacher"] = kd.Distiller(teacher, make_student())
timed["cache"] = kd.Distiller(predictions, make_student())
for model in timed.values():
    model.compile(keras.optimizers.Adam(5e-3), classification_loss())


# Each image 20 times, so that an epoch is long.
sample_index = np.tile(np.arange(len(our_images)), 20)
long_epoch = dict(x=our_images[sample_index], y=our_labels[sample_index])


def seconds(model):
    if model is alone:
        data = dict(**long_epoch, batch_size=50)
    else:
        data = predictions.join(
            **long_epoch, batch_size=50, sample_index=sample_index
        )
        data = dict(x=data)
    start = time.perf_counter()
    model.fit(**data, verbose=0)
    return time.perf_counter() - start


for model in timed.values():
    seconds(model)  # Compiles the step.
rounds = [
    {name: seconds(model) for name, model in timed.items()}
    for _ in range(1 if TRIAL else 5)
]
for name in timed:
    step = min(each[name] for each in rounds) / 80
    ratio = np.median([each[name] / each["student alone"] for each in rounds])
    print(f"{name:15}{1000 * step:6.2f} ms a step, {ratio:.2f} x")

"""
On JAX, a step with the live teacher takes 7 times as long as a step of the
student alone, and with the cache 1.7 times; when other programs were running,
it was 9 and 2.6. On PyTorch it was 4.9 and 1.7, on TensorFlow 4.6 and 1.5.

Why is the last number not 1? A distiller has a second loss to compute, and the
predictions of each batch are read in Python: on JAX this takes 0.2 ms in all.
The step of our very small student takes about as long. A step of a real student
takes a hundred times as long, and of a real teacher, too; reading takes the
same time.

And without a teacher, its memory is free for larger batches.

## Make it smaller

`Dense("float32")` stores every bit. What do you lose if you store less?

- `Dense("float16")`, the default, takes half of the space.
- `TopK(k)` stores the k likeliest classes, and one number for all the others:
  their total probability, which is exact at the temperature that you give. So
  nothing is normalized again.
- `Int8()` is for features: an integer from -127 to 127 for each value, and one
  scale for each channel.

We train from each of them, over the seeds.
"""

results = {}


def record(name, train, *args, **kwargs):
    scores = []
    for seed in SEEDS:
        student = train(seed, *args, **kwargs)
        scores.append(
            [
                accuracy(student, validation_images, validation_labels),
                accuracy(student, test_images, test_labels),
                accuracy(student, moved_test_images, test_labels),
            ]
        )
    results[name] = np.array(scores)
    means, spreads = np.mean(scores, axis=0), spread_of(scores)
    columns = [f"{m:.1f} +- {s:.1f}" for m, s in zip(means, spreads)]
    print(f"{name:24}" + "".join(f"{column:>14}" for column in columns))


def spread_of(scores):
    ddof = min(1, len(scores) - 1)
    return np.std(scores, axis=0, ddof=ddof)


def distill_live(seed):
    return distill(seed, teacher, joined(seed, predictions))


def distill_cached(seed, predictions):
    return distill(seed, predictions, joined(seed, predictions))


def train_alone(seed):
    keras.utils.set_random_seed(seed)
    student = make_student()
    student.compile(keras.optimizers.Adam(5e-3), classification_loss())
    student.fit(
        our_images,
        our_labels,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        verbose=0,
    )
    return student


print(f"{'':24}{'validation':>14}{'test':>14}{'moved':>14}")
record("alone", train_alone)
record("live teacher", distill_live)

bytes_per_sample = {}
encodings = {
    "float32": kd.cache.Dense("float32"),
    "float16": kd.cache.Dense("float16"),
    "top 4": kd.cache.TopK(4, temperature=4.0),
    "top 1": kd.cache.TopK(1, temperature=4.0),
}
for name, encoding in encodings.items():
    if TRIAL and name != "float16":
        continue
    path = FOLDER / name
    kd.cache.write(teacher, our_images, path, outputs=encoding, verbose=0)
    stored = kd.cache.open(path, teacher=teacher)
    bytes_per_sample[name] = encoding.bytes_per_sample((10,))
    record(name, distill_cached, stored)

"""
Now with features. The tap `"embedding"` reads the teacher's last hidden layer,
and the student's layer `"hidden"` has to match it. A cache may hold several
taps, each with its own encoding: give them in a dict, with `""` for the output.
"""


def transfers():
    return [
        kd.Transfer(kd.losses.SoftTargets(temperature=4.0), weight=0.9),
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="embedding",
            student="hidden",
            adapter=kd.layers.FeatureAdapter(),
        ),
    ]


def distill_features(seed, predictions):
    return distill(seed, predictions, joined(seed, predictions), transfers())


feature_encodings = {
    "+ features, float32": kd.cache.Dense("float32"),
    "+ features, int8": kd.cache.Int8(),
}
for name, encoding in feature_encodings.items():
    if TRIAL and not name.endswith("int8"):
        continue
    path = FOLDER / name
    kd.cache.write(
        teacher,
        our_images,
        path,
        outputs={"": kd.cache.Dense("float16"), "embedding": encoding},
        verbose=0,
    )
    stored = kd.cache.open(path, teacher=teacher)
    bytes_per_sample[name] = bytes_per_sample["float16"]
    bytes_per_sample[name] += encoding.bytes_per_sample((64,))
    record(name, distill_features, stored)

figure, axis = plt.subplots(figsize=(8, 3.6))
for name, size in bytes_per_sample.items():
    scores = results[name][:, 1]
    axis.plot([size] * len(scores), scores, "o", color="C0", alpha=0.4)
    axis.plot(size, np.mean(scores), "_", color="k", markersize=16, zorder=3)
    label = name.replace(", ", ",\n")
    axis.annotate(
        label,
        (size, np.max(scores)),
        (0, 7),
        textcoords="offset points",
        ha="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
live_mean = np.mean(results["live teacher"][:, 1])
axis.axhline(live_mean, color="C1", label="live teacher, mean")
axis.set_xscale("log")
axis.set_xticks(list(bytes_per_sample.values()))
axis.xaxis.set_major_formatter("{x:.0f}")
axis.minorticks_off()
axis.margins(x=0.12, y=0.25)
axis.set_xlabel("bytes per sample")
axis.set_ylabel("test accuracy (%)")
axis.legend(loc="lower left")
figure.tight_layout()
plt.savefig("cached_predictions_bytes.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy by bytes per sample.*

The bytes don't include the 8 of the sample index. The figure shows the run on
JAX; a table of all three backends is at the end of this guide. The results:

- float32 gives the numbers of the live teacher, to the tenth, on each backend.
- float16 takes half of the space, and the numbers hardly change: by a tenth of
  a point on the test images and on the moved ones.
- Top 4 is within the spread of the seeds on PyTorch, and a little below float32
  on the other two.
- Top 1 takes five bytes. On the test images it is as good as the others. But on
  the moved images it is two to four points below float32, on all three
  backends, and no better than the student alone. With one class, there is no
  information about the similarities between classes.
- Features in int8 take 64 bytes in place of 256, and the students are the same
  within the spread. Whether features help at all is another question: here they
  don't. See the guide *Learning from features and attention*.

And the student alone? On the centered test images the teacher, live or cached,
gains 0.9 points on PyTorch, 0.6 on TensorFlow and almost nothing on JAX. A
cache makes distillation cheaper. It does not make it better.

With ten classes, small encodings save very little. Use float16 as long as it
fits: it is the default, and the plan shows when it does not fit.

## Augmented views that can be repeated

This is where most caches go wrong. We want to train the student on moved
digits, and on mixtures of two of them. So we write `augment(images, uniforms)`,
which makes an *augmented view* of each image from random numbers that it gets
as an argument. A mixture has no label, but the teacher can predict it.
"""


def augment(images, uniforms):
    partners = (len(our_images) * uniforms[:, 2]).astype(int)
    fraction = uniforms[:, 3].reshape((-1, 1, 1, 1))
    mixed = fraction * images + (1 - fraction) * our_images[partners]
    return move(mixed, uniforms[:, :2])


"""
First the wrong way: augment in the pipeline, and join the predictions for the
images that are not augmented.
"""


class AugmentedImages(keras.utils.PyDataset):
    def __init__(self, seed):
        super().__init__()
        self.generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return len(our_images) // BATCH_SIZE

    def __getitem__(self, number):
        start = number * BATCH_SIZE
        sample_index = self.order[start : start + BATCH_SIZE]
        uniforms = self.generator.random((BATCH_SIZE, 4))
        x = augment(our_images[sample_index], uniforms)
        return x, {"sample_index": sample_index}

    def on_epoch_end(self):
        self.order = self.generator.permutation(len(our_images))


mistaken = predictions.join(AugmentedImages(seed=0))
try:
    for number in range(len(mistaken)):
        mistaken[number]
except ValueError as error:
    print(str(error).replace(str(FOLDER), "..."))

"""
The cache has checksums of some images in each shard. The image in the batch was
another one, so it raised an error. `fit` stops with the same error.

The right way is `cache.AugmentedViews`. It makes `count` augmented views of
each image, from random numbers that depend on the seed, the sample index and
the number of the view, and on nothing else. So the views are the same for the
teacher today and for the student next week, and no pixel is stored.
"""

views = kd.cache.AugmentedViews(
    our_images, augment=augment, draws=4, count=4, seed=0
)
x, y = views.batch(sample_index=[0, 1, 2, 3, 4, 5], view=0)
again, _ = views.batch(sample_index=[5, 0], view=0)
print(x.shape, sorted(y), np.array_equal(x[[5, 0]], again))

figure, axes = plt.subplots(3, 6, figsize=(7, 3.7))
rows = {"image": our_images[:6], "view 0": x}
rows["view 1"], _ = views.batch(sample_index=range(6), view=1)
for (name, pictures), row in zip(rows.items(), axes):
    for axis, picture in zip(row, pictures):
        axis.imshow(picture[:, :, 0], cmap="gray_r")
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(name)
figure.tight_layout()
plt.savefig("cached_predictions_views.png", dpi=120)
plt.show()

"""
*Figure: Six images and two augmented views of each.*

`write` and `join` take the augmented views in place of the images. Epoch 0 uses
view 0 of each image, epoch 1 view 1, and after the last view it begins again
with view 0. How many are enough? At most one for each epoch. We try 1, 5 and
50, all of them without labels; for comparison also the images as they are
(*clean*), and, with `check_inputs=False`, the wrong way.
"""


def without_labels(seed, predictions, x):
    data = predictions.join(x, batch_size=BATCH_SIZE, seed=seed)
    return distill(seed, predictions, data, use_labels=False)


def the_wrong_way(seed):
    unchecked = kd.cache.open(FOLDER / "predictions", check_inputs=False)
    data = unchecked.join(AugmentedImages(seed))
    return distill(seed, unchecked, data, use_labels=False)


record("clean images", without_labels, predictions, our_images)

counts = (1,) if TRIAL else (1, 5, EPOCHS)
for count in counts:
    views = kd.cache.AugmentedViews(
        our_images, augment=augment, draws=4, count=count, seed=0
    )
    path = FOLDER / f"{count} views"
    kd.cache.write(teacher, views, path, verbose=0)
    stored = kd.cache.open(path, teacher=teacher)
    record(f"{count} views", without_labels, stored, views)
record("the wrong way", the_wrong_way)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for axis, column, title in zip(axes, (1, 2), ("test", "test, moved")):
    scores = [results[f"{count} views"][:, column] for count in counts]
    axis.errorbar(
        counts,
        np.mean(scores, axis=1),
        [spread_of(each) for each in scores],
        marker="o",
        capsize=3,
        label="views",
    )
    for name, color in (("clean images", "C1"), ("the wrong way", "C3")):
        axis.axhline(np.mean(results[name][:, column]), color=color, label=name)
    axis.set_xscale("log")
    axis.set_xticks(counts, counts)
    axis.minorticks_off()
    axis.set_xlabel("augmented views of each image")
    axis.set_title(title)
axes[0].set_ylabel("accuracy (%)")
axes[0].legend()
figure.tight_layout()
plt.savefig("cached_predictions.png", dpi=120)
plt.show()

"""
*Figure: Accuracy by number of augmented views.*

All of this holds on the three backends; the numbers are those of JAX.

**The wrong way costs the most.** The student's targets are the teacher's
predictions for other images. On the test images it reaches 80.7 %, and with
clean images 93.9 %; on moved digits it is nine points below the right way. And
without the check there is no error.

**Augmented views help on images like themselves.** On moved digits, 50 views of
each image bring the student from 62.7 to 79.3 %, without labels, from 200
images.

**They are not free.** On the centered digits 50 views cost two points, as the
64 hidden units have much more to learn in the same 50 epochs. A larger student
and more epochs should change that. We have not tried.

**One view is not enough.** A single view of each image, the same in each epoch,
costs four points on the centered digits, and more on the other backends. Five
are better than one in both tests. From 5 to 50 the centered digits lose more
than a point, and the moved ones gain two at most, on JAX none.

On the validation images, which are centered, no number of views is better than
the clean images. With these alone, we would not have found the gain on moved
images. Choose settings on images like those in use.

To resume such a run in a later epoch, set the epoch of the data by the callback
`keras.callbacks.LambdaCallback(on_epoch_begin=data.set_epoch)`, where `data` is
the result of `join`. And `cache.plan(teacher, views, ...)` plans for augmented
views as well.

## Share the work and the cache

For a large data set, several machines can run the teacher. Each writes a part
of its own into a common folder, and when all of them are done, one of them
merges. Here we do both in one process.
"""

for part, sample_index in enumerate(np.array_split(np.arange(200), 2)):
    one_batch = [(our_images[sample_index], {"sample_index": sample_index})]
    kd.cache.write(
        teacher, one_batch, FOLDER / "shared", part=str(part), verbose=0
    )
kd.cache.merge(FOLDER / "shared", samples=200)
print(kd.cache.open(FOLDER / "shared", teacher=teacher))

"""
`merge` checks that all parts are of one teacher, that all are complete, and
that no sample is missing or there twice. It copies nothing.

The folder can be copied or zipped. `cache.open` reads it from a bucket, too:

```python
predictions = kd.cache.open("s3://bucket/predictions", verify="full")
```

It takes any URL that `fsspec` supports, downloads a file when it is first used,
and keeps a copy. A cache contains no code, so it is safe to open one from
somebody else: whatever its files say, nothing outside of the folder is read or
written, and what is wrong is an error that names the entry.

Of a large cache, `open` compares the checksums of 256 MB (`verified` is the
share of it), and `verify="full"` those of all. `verify` also looks at each
record, and says all that is wrong.
"""

print(kd.cache.verify(FOLDER / "shared", teacher=teacher))

"""
Files can be damaged. We flip one bit in a copy.
"""

damaged = FOLDER / "damaged"
shutil.copytree(FOLDER / "shared", damaged)
(shard,) = damaged.glob("parts/1/*-*.npy")
data = bytearray(shard.read_bytes())
data[-10] ^= 1
shard.write_bytes(data)


def try_to(action):
    try:
        action()
    except ValueError as error:
        print(str(error).replace(str(FOLDER), "..."))


try_to(lambda: kd.cache.open(damaged))

"""
A part that is missing:
"""

shutil.rmtree(damaged / "parts" / "1")
try_to(lambda: kd.cache.merge(damaged, samples=200))

"""
A teacher with other weights than those that made the predictions:
"""

try_to(lambda: kd.cache.open(FOLDER / "predictions", teacher=make_teacher()))

"""
Images in another order than before:
"""

try_to(lambda: predictions.join(our_images[::-1], our_labels[::-1]))

"""
And batches without predictions, because `join` was forgotten:
"""

try_to(lambda: distiller.fit(our_images, our_labels, verbose=0))

"""
## What we found

Accuracy in percent on the test images, mean and standard deviation over three
seeds, on a CPU. The teacher is one run on each backend. From `clean images` on,
the students have no labels. The number of images and the size of
the shifts were chosen with these numbers in mind: take them as an illustration.

| test                | JAX         | PyTorch     | TensorFlow  |
|---------------------|-------------|-------------|-------------|
| alone               | 94.3 +- 0.3 | 93.9 +- 0.3 | 94.1 +- 0.6 |
| live teacher        | 94.4 +- 0.3 | 94.8 +- 0.3 | 94.7 +- 0.7 |
| float32             | 94.4 +- 0.3 | 94.8 +- 0.3 | 94.7 +- 0.7 |
| float16             | 94.4 +- 0.3 | 94.9 +- 0.3 | 94.7 +- 0.7 |
| top 4               | 93.9 +- 0.3 | 94.9 +- 0.4 | 94.3 +- 0.4 |
| top 1               | 94.8 +- 0.3 | 94.8 +- 0.3 | 94.6 +- 0.3 |
| + features, float32 | 94.3 +- 0.1 | 94.7 +- 0.5 | 94.9 +- 0.2 |
| + features, int8    | 94.2 +- 0.2 | 94.7 +- 0.5 | 94.9 +- 0.2 |
| clean images        | 93.9 +- 0.7 | 94.8 +- 0.9 | 94.6 +- 0.5 |
| 1 view              | 89.8 +- 1.2 | 87.6 +- 0.8 | 88.1 +- 1.8 |
| 5 views             | 93.3 +- 0.7 | 92.3 +- 0.8 | 92.0 +- 0.9 |
| 50 views            | 91.9 +- 0.3 | 90.8 +- 0.2 | 90.8 +- 1.4 |
| the wrong way       | 80.7 +- 1.2 | 82.2 +- 0.8 | 81.2 +- 1.8 |
| teacher             | 98.5        | 98.7        | 98.8        |

And on the same images, moved by up to a pixel:

| moved               | JAX         | PyTorch     | TensorFlow  |
|---------------------|-------------|-------------|-------------|
| alone               | 60.3 +- 1.7 | 60.9 +- 0.5 | 62.1 +- 0.9 |
| live teacher        | 63.0 +- 0.8 | 62.2 +- 1.3 | 62.7 +- 0.4 |
| float32             | 63.0 +- 0.8 | 62.2 +- 1.3 | 62.7 +- 0.4 |
| float16             | 62.9 +- 0.7 | 62.3 +- 1.3 | 62.7 +- 0.5 |
| top 4               | 62.1 +- 0.9 | 62.4 +- 1.2 | 61.4 +- 0.3 |
| top 1               | 60.4 +- 0.8 | 59.8 +- 0.8 | 59.2 +- 0.5 |
| + features, float32 | 62.4 +- 1.2 | 62.7 +- 0.9 | 62.1 +- 0.9 |
| + features, int8    | 62.4 +- 1.2 | 62.9 +- 1.0 | 62.2 +- 1.1 |
| clean images        | 62.7 +- 0.8 | 61.5 +- 1.6 | 62.3 +- 0.6 |
| 1 view              | 77.3 +- 0.9 | 76.7 +- 1.7 | 76.1 +- 1.2 |
| 5 views             | 79.3 +- 0.6 | 78.2 +- 1.8 | 80.1 +- 1.2 |
| 50 views            | 79.3 +- 1.3 | 80.0 +- 1.3 | 80.6 +- 1.8 |
| the wrong way       | 70.2 +- 0.8 | 70.4 +- 0.9 | 69.8 +- 0.7 |
| teacher             | 97.0        | 97.5        | 97.3        |

## Conclusion

Run the teacher once, and store its predictions by sample index, together with
fingerprints of the teacher and the data. Plan first. Store float16, and top-k
if there are many classes. If you augment, use `cache.AugmentedViews`, and never
switch off the check of the inputs to avoid an error. Choose augmentations like
the images in use: augmented views help on such images, and not on others.

Where next:

- `help(kd.cache.write)`, `help(kd.cache.open)`,
  `help(kd.cache.AugmentedViews)`;
- `examples/mnist_cached_teacher.py`: Hinton's experiment from a cache, with
  augmented views;
- `examples/teacher_predictions_with_ray.py`: many writers, on a cluster;
- `examples/benchmarks/teacher_cache.py`: how long a step with a cache takes.
"""
