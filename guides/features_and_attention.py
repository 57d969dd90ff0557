"""
Title: Learning from features and attention
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/30
Description: Distil the features of a convolutional network into a transformer.
Accelerator: None
Needs: pip install ".[jax,tensorflow,examples]"
"""

"""
## Introduction

Soft targets are *what* a teacher model predicts. Its hidden layers show *how*
it gets there: which features it computes, and where in the image it is active.

The two models may differ. Here the teacher is a convolutional network, whose
features are maps. The student is a small transformer, whose features are
sequences of tokens. In this guide you will

- name the layers to learn from, with *taps*;
- match a sequence with a map by a `FeatureAdapter`;
- choose weights by looking at the logged parts of the loss;
- compare soft targets, features and attention over three seeds;
- start from the layers of a transformer teacher.

If `kd.Distiller(teacher, student)` is new to you, read
[Getting started](getting_started.ipynb) first.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_datasets as tfds
from keras import layers
from keras import ops

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and one way of those that are compared.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)
EPOCHS = 20
BATCH_SIZE = 50

"""
## Data

MNIST, handwritten digits of 28x28 pixels. The teacher is trained on 10,000
images. For the student we have only 1,000 of them, and test it on 2,000 others.
"""


def mnist(split):
    data = tfds.load("mnist", split=split, batch_size=-1, as_supervised=True)
    images, labels = tfds.as_numpy(data)
    return (images / 255.0).astype("float32"), labels


many_images, many_labels = mnist("train[:10000]")
few_images, few_labels = many_images[:1000], many_labels[:1000]
test_images, test_labels = mnist("test[:2000]")


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy(model):
    logits = model.predict(test_images, batch_size=1000, verbose=0)
    return 100 * np.mean(np.argmax(logits, axis=-1) == test_labels)


"""
## The teacher: convolutions

Its last hidden layer, `conv3`, makes a map of 4x4 positions with 64 channels.
Give names to the layers that you want to read.
"""


def convolution(filters, name):
    return layers.Conv2D(
        filters, 3, strides=2, padding="same", activation="relu", name=name
    )


keras.utils.set_random_seed(0)
teacher = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        convolution(32, "conv1"),
        convolution(64, "conv2"),
        convolution(64, "conv3"),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, name="logits"),
    ],
    name="teacher",
)
teacher.compile("adam", classification_loss())
teacher.fit(many_images, many_labels, batch_size=100, epochs=5, verbose=0)
print(f"Teacher: {accuracy(teacher):.1f} %, {teacher.count_params():,} weights")

"""
## The student: a transformer

It cuts the image into 16 patches of 7x7 pixels, and makes a token of each. Each
block is a model of its own, so its layers have a path: `block1/attention1`.

(Each attention layer has another name. On PyTorch, a plain `fit` of Keras 3.15
mistakes two variables of the same path for one.)
"""


@keras.saving.register_keras_serializable(package="guide")
class Positions(layers.Layer):
    # Adds a trained vector to each token: a position embedding.

    def build(self, input_shape):
        self.vectors = self.add_weight(
            shape=input_shape[1:], initializer="uniform", name="vectors"
        )

    def call(self, tokens):
        return tokens + self.vectors


def make_block(width, number):
    inputs = keras.Input((16, width))
    x = layers.LayerNormalization()(inputs)
    x = layers.MultiHeadAttention(2, width // 2, name=f"attention{number}")(
        x, x
    )
    attended = layers.Add()([inputs, x])
    x = layers.LayerNormalization()(attended)
    x = layers.Dense(2 * width, activation="gelu")(x)
    x = layers.Dense(width)(x)
    outputs = layers.Add()([attended, x])
    return keras.Model(inputs, outputs, name=f"block{number}")


def make_transformer(num_blocks=2, width=32, name="student"):
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(width, 7, strides=7, name="patches")(inputs)
    x = layers.Reshape((16, width), name="tokens")(x)
    x = Positions(name="positions")(x)
    for number in range(1, num_blocks + 1):
        x = make_block(width, number)(x)
    x = layers.LayerNormalization()(x)
    x = layers.GlobalAveragePooling1D()(x)
    outputs = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


"""
## Taps: where to read

A *tap* (a "hook") is a string that names a place in a model.

| tap                          | reads                                        |
|------------------------------|----------------------------------------------|
| `None`                       | the model's output                           |
| `"conv3"`                    | the output of the layer `conv3`              |
| `"block1/attention1"`        | a layer inside of a nested model             |
| `"logits:input"`             | the input of the layer `logits`              |
| `"block1/attention1:scores"` | the attention maps of a `MultiHeadAttention` |
| `["conv2", "conv3"]`         | several places at once                       |

A tapped layer is read while the model runs. Models are not changed, nothing is
computed twice, and they may be subclassed.

## Transfers: what to learn

A `Transfer` is one term of the distillation loss: it compares a tap of the
teacher with a tap of the student. Here `conv3` has the shape (4, 4, 64) and
`block2` has (16, 32). Without an adapter the two can't be compared. This is
checked when the `Distiller` is made, before any training:
"""

try:
    features = kd.Transfer(
        kd.losses.FeatureMatching(), teacher="conv3", student="block2"
    )
    kd.Distiller(teacher, make_transformer(), features)
except ValueError as error:
    print(error)

"""
A `FeatureAdapter` makes a square map of the 16 tokens, and projects 32 channels
to 64. The projection is trained together with the student.
"""


def soft_targets():
    return kd.Transfer(kd.losses.SoftTargets(temperature=4.0), weight=0.9)


def hidden(loss, weight):
    return kd.Transfer(
        loss,
        teacher="conv3",
        student="block2",
        adapter=kd.layers.FeatureAdapter(),
        weight=weight,
    )


def features(weight):
    return hidden(kd.losses.FeatureMatching(), weight)


def attention(weight):
    return hidden(kd.losses.AttentionTransfer(form="paper"), weight)


"""
`FeatureMatching` is the hint of
[FitNets (Romero et al., 2015)](https://arxiv.org/abs/1412.6550): each channel
at each position is to be equal.

`AttentionTransfer` (AT,
[Zagoruyko and Komodakis, 2017](https://arxiv.org/abs/1612.03928)) is less
strict. It squares the activations and sums them over the channels. The result
is one map of where the network is active, scaled to length 1. We take the loss
as the paper writes it; the authors' code (`form="code"`, the default) makes it
much smaller, and has a weight of 1000.

## Choose weights by looking at the parts

Losses of different kinds have different sizes. Before long runs, train for a
few epochs with every weight at 1, and look at the logs.
"""


def distill(teacher, student, transfers, epochs=EPOCHS):
    model = kd.Distiller(teacher, student, transfers) if transfers else student
    steps = epochs * len(few_images) // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    model.compile(keras.optimizers.Adam(schedule), classification_loss())
    history = model.fit(
        few_images, few_labels, BATCH_SIZE, epochs=epochs, verbose=0
    )
    return model, history.history


keras.utils.set_random_seed(0)
parts = [soft_targets(), features(1.0), attention(1.0)]
_, history = distill(teacher, make_transformer(), parts, epochs=3)
for name, values in history.items():
    print(f"{name:26}" + "".join(f"{value:9.4f}" for value in values))

"""
The features and the attention are ten to twenty times smaller than the soft
targets, so they get a weight of 10. A part should have about the size of the
others, or be somewhat smaller. It need not be more exact than that. To see what
happens where a part is much larger, we also try a weight of 100, with one seed.

## Compare
"""

results = {}


def compare(name, transfers, seeds=SEEDS):
    scores, models = [], []
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        student = make_transformer()
        models.append(distill(teacher, student, transfers())[0])
        scores.append(accuracy(student))
    results[name] = scores
    spread = f"± {np.std(scores, ddof=1):.1f} %" if len(scores) > 1 else "%"
    print(f"{name:18}{np.mean(scores):5.1f} {spread}")
    return models[0]


if not TRIAL:
    compare("labels alone", lambda: [])
    compare("soft targets", lambda: [soft_targets()])
    compare("+ features, 10", lambda: [soft_targets(), features(10)])
    compare("+ features, 100", lambda: [soft_targets(), features(100)], [0])
guided = compare("+ attention, 10", lambda: [soft_targets(), attention(10)])

figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
for row, scores in enumerate(results.values()):
    axis.plot(scores, [row] * len(scores), "o", alpha=0.6)
    axis.plot(np.mean(scores), row, "k|", markersize=18)
axis.set_yticks(range(len(results)), list(results))
axis.invert_yaxis()
axis.set_xlabel("test accuracy of the student (%)")
axis.grid(axis="x", alpha=0.3)
plt.savefig("features_and_attention.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy: a dot for each seed, a bar for the mean.*

Soft targets gain four points over the labels alone. With features in addition
the mean is a point higher, and the three seeds are close together. With
attention it is half a point higher: less than the spread, so these three runs
can't tell whether it helped.

The weight matters more than the choice between them: at 100 the features
take over, and the student is worse than with labels alone.

## Where are the models active?

`kd.extract_features` reads features from any model, outside of training, and
`kd.losses.attention_map` makes a map of them. The student's features go through
the adapter that was trained with it. The distiller has both.
"""

adapter = guided.transfers[1].adapters[0]


def attention_of(model, tap, adapt=None):
    features = kd.extract_features(model, test_images[:6], [tap])[tap]
    features = features if adapt is None else adapt(features)
    maps = ops.reshape(kd.losses.attention_map(features), (-1, 4, 4))
    return ops.convert_to_numpy(ops.stop_gradient(maps))


rows = {
    "image": test_images[:6, :, :, 0],
    "teacher": attention_of(teacher, "conv3"),
    "student": attention_of(guided.student, "block2", adapter),
}
figure, axes = plt.subplots(3, 6, figsize=(8, 4.2), layout="constrained")
for (name, maps), row in zip(rows.items(), axes):
    for axis, attention_image in zip(row, maps):
        colors = "gray_r" if name == "image" else "viridis"
        axis.imshow(attention_image, cmap=colors)
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(name)
plt.savefig("attention_maps.png", dpi=120)
plt.show()

"""
*Figure: Attention of teacher and student, bright where they are active.*

Each square is one of 16 positions. The student is mostly active where the
teacher is. The adapter stays with the distiller, so the student that you save
is as small as before:
"""

print(f"Student: {guided.student.count_params():,} weights")
print(f"Adapter: {adapter.count_params():,} weights, not saved with it")
guided.student.save("student.keras")
print(f"Loaded:  {accuracy(keras.saving.load_model('student.keras')):.1f} %")

"""
Two transformers can also compare their attention maps directly. The tap
`"block1/attention1:scores"` reads them, and an `AttentionAdapter` makes the
teacher's number of heads of the student's.

## A student made of its teacher's layers

If the student may have the teacher's architecture, `kd.students.shrink` makes
it. From a Functional model with repeated blocks it keeps every second block
(`depth=0.5`) with its weights, as DistilBERT was made of BERT. It also returns
a transfer for each kept block, which we leave out here. `width=` makes layers
narrower instead. How much does it help to begin with the teacher's weights? We
train a teacher of four blocks, and two students of two blocks for five epochs.
"""

keras.utils.set_random_seed(0)
deep_teacher = make_transformer(2 if TRIAL else 4, name="deep_teacher")
deep_teacher.compile(keras.optimizers.Adam(2e-3), classification_loss())
deep_teacher.fit(many_images, many_labels, batch_size=100, epochs=4, verbose=0)
print(f"Transformer teacher: {accuracy(deep_teacher):.1f} %")

for initializer in ("random", "teacher")[-1 if TRIAL else 0 :]:
    keras.utils.set_random_seed(0)
    student, _ = kd.students.shrink(
        deep_teacher, depth=0.5, initializer=initializer
    )
    before = accuracy(student)
    distill(deep_teacher, student, [soft_targets()], epochs=5)
    print(
        f"{initializer:8} weights: {before:.1f} % before training, "
        f"{accuracy(student):.1f} % after"
    )

"""
With random weights five epochs are too few. With the teacher's weights the
student is as good as the ones above, which had twenty: its layers bring along
what the teacher has learned of 10,000 images. That is the largest gain in this
guide. So if your student may be made of its teacher's layers, begin there.

## Conclusion

A transfer is a loss between two taps. An adapter matches shapes that differ,
and is not part of the final student. Begin with soft targets. Add one transfer
at a time, look at its part in the logs, and compare over several seeds.

Next: [Writing a loss of your own](writing_a_loss.ipynb).
"""
