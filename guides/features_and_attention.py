"""
Title: Learning from features and attention
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/21
Description: Teach a small transformer what a convolutional network sees.
Accelerator: None
"""

"""
## Introduction

Soft targets tell the student *what* the teacher answers. Hidden layers tell
*how* it gets there: which features it computes, and where in the image it
looks.

Teacher and student need not be built alike. Here the teacher is a convolutional
network, whose features are maps. The student is a small transformer, whose
features are token sequences. In this guide you will

- name the layers to learn from, with *taps*;
- join a sequence to a map with a `FeatureAdapter`;
- choose weights by looking at the logged parts;
- compare soft targets, features and attention over several seeds;
- pass on the attention maps of one transformer to another.

If `kd.Distiller(teacher, student)` is new to you, read *Getting started* first.

```shell
pip install ".[jax,examples]"  # in a clone of the repository
```
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
EPOCHS = 30
BATCH_SIZE = 50

"""
## Data

The 8x8 digits that scikit-learn ships: 1,000 to train with, 797 to test.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))
train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=797, stratify=labels, random_state=0
)


def classification_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy(model):
    logits = model(test_images, training=False)
    predictions = ops.convert_to_numpy(ops.argmax(logits, axis=-1))
    return 100 * np.mean(predictions == test_labels)


"""
## The teacher: convolutions

Its last hidden layer, `conv3`, gives a map of 4x4 positions with 64 channels.
Give names to the layers that you want to tap.
"""


def make_teacher():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1")(
        inputs
    )
    x = layers.Conv2D(
        64, 3, strides=2, padding="same", activation="relu", name="conv2"
    )(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name="teacher")


keras.utils.set_random_seed(0)
teacher = make_teacher()
teacher.compile("adam", classification_loss())
teacher.fit(
    train_images,
    train_labels,
    batch_size=BATCH_SIZE,
    epochs=20,
    verbose=0,
)
print(f"Teacher: {accuracy(teacher):.1f} %, {teacher.count_params():,} weights")

"""
## The student: a transformer

It cuts the image into 16 patches of 2x2 pixels, and makes a token of each. Each
block is a model of its own, so its layers have a path: `block1/attention1`.

Note that no name occurs twice in the whole model. With Keras 3.15 on PyTorch
that matters more than it should. Two variables of the same path, such as an
`attention/query/kernel` in each block, are taken for one. In a plain `fit` the
gradients of the other are then never reset, and the model trains badly without
a word. (A `Distiller` resets them all, but the student that we train alone, to
compare with, has no such help.)
"""


@keras.saving.register_keras_serializable(package="guide")
class Positions(layers.Layer):
    # Adds a trained vector to each token, so that it knows its place.

    def build(self, input_shape):
        self.vectors = self.add_weight(
            shape=input_shape[1:], initializer="uniform", name="vectors"
        )

    def call(self, tokens):
        return tokens + self.vectors


def make_block(width, num_heads, number):
    inputs = keras.Input((16, width))
    x = layers.LayerNormalization()(inputs)
    x = layers.MultiHeadAttention(
        num_heads, width // num_heads, name=f"attention{number}"
    )(x, x)
    attended = layers.Add()([inputs, x])
    x = layers.LayerNormalization()(attended)
    x = layers.Dense(2 * width, activation="gelu")(x)
    x = layers.Dense(width)(x)
    outputs = layers.Add()([attended, x])
    return keras.Model(inputs, outputs, name=f"block{number}")


def make_transformer(width=32, num_heads=2, num_blocks=2, name="student"):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(width, 2, strides=2, name="patches")(inputs)
    x = layers.Reshape((16, width), name="tokens")(x)
    x = Positions(name="positions")(x)
    for number in range(1, num_blocks + 1):
        x = make_block(width, num_heads, number)(x)
    x = layers.LayerNormalization()(x)
    x = layers.GlobalAveragePooling1D()(x)
    outputs = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)


print(f"Student: {make_transformer().count_params():,} weights")

"""
## Taps: where to read

A tap is a string that names a place in a model.

| tap                          | reads                                        |
|------------------------------|----------------------------------------------|
| `None`                       | the model's output                           |
| `"conv3"`                    | what the layer `conv3` returns               |
| `"block1/attention1"`        | a layer inside of a nested model             |
| `"logits:input"`             | what the layer `logits` is given             |
| `"block1/attention1:scores"` | the attention maps of a `MultiHeadAttention` |
| `["conv2", "conv3"]`         | several places at once                       |

A tapped layer is read while the model runs. Nothing is cut out of your models,
nothing is run twice, and they may be subclassed.

## Transfers: what to pass on

A `Transfer` joins a place in the teacher to a place in the student with a loss.
Here are three: the soft targets, the features, and the places where
activations are strong.

The teacher's `conv3` has the shape (4, 4, 64), the student's `block2` has
(16, 32). A `FeatureAdapter` matches whatever differs. It makes a square map of
the tokens, and projects 32 channels to 64. The projection is trained along with
the student.
"""


def soft_targets():
    return kd.Transfer(kd.losses.SoftTargets(temperature=4.0), weight=0.9)


def features(weight):
    return kd.Transfer(
        kd.losses.FeatureMatching(),
        teacher="conv3",
        student="block2",
        adapter=kd.layers.FeatureAdapter(),
        weight=weight,
    )


def attention(weight, form="paper"):
    return kd.Transfer(
        kd.losses.AttentionTransfer(form=form),
        teacher="conv3",
        student="block2",
        adapter=kd.layers.FeatureAdapter(),
        weight=weight,
    )


"""
`FeatureMatching` is the hint of
[FitNets (Romero et al., 2015)](https://arxiv.org/abs/1412.6550): each channel
at each position is to be equal.

`AttentionTransfer` asks for less
([Zagoruyko and Komodakis, 2017](https://arxiv.org/abs/1612.03928)). It squares
the activations and sums them over the channels. What remains is one map, which
says where the network is active; its length is made 1. There are two forms of
it. The authors' code takes the mean of squared differences over all positions,
and so it is tiny: they multiply it by 1000. Their paper takes the length of the
difference, for which a weight of about 1 will do. You choose by `form="code"`,
the default, or `form="paper"`.

To use several layers, give lists. They are paired in order, and each pair gets
an adapter of its own:
"""

several = kd.Transfer(
    kd.losses.FeatureMatching("cosine"),
    teacher=["conv2", "conv3"],
    student=["block1", "block2"],
    adapter=kd.layers.FeatureAdapter(),
    name="two_hints",
)
kd.Distiller(teacher, make_transformer(), [several])
print([adapter.count_params() for adapter in several.adapters])

"""
Shapes are checked here, when the `Distiller` is made, and not after an hour of
training. Without an adapter, a map and a sequence can't be compared:
"""

try:
    kd.Distiller(
        teacher,
        make_transformer(),
        [
            kd.Transfer(
                kd.losses.FeatureMatching(), teacher="conv3", student="block2"
            )
        ],
    )
except ValueError as error:
    print(error)

"""
## Choose weights by looking at the parts

Losses of different kinds have different sizes. Before long runs, train for a
few epochs with every weight at 1, and look at the logs.
"""


def distill(student, transfers, epochs=EPOCHS):
    steps = epochs * len(train_images) // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(6e-3, steps)
    distiller = kd.Distiller(teacher, student, transfers)
    distiller.compile(keras.optimizers.Adam(schedule), classification_loss())
    history = distiller.fit(
        train_images,
        train_labels,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
    )
    return distiller, history


keras.utils.set_random_seed(0)
code_form = attention(1.0, form="code")
paper_form = attention(1.0)
paper_form.name = "attention_transfer_paper"
_, history = distill(
    make_transformer(),
    [soft_targets(), features(1.0), code_form, paper_form],
    epochs=3,
)
for key, values in history.history.items():
    print(f"{key:30}" + "".join(f"{value:10.4f}" for value in values))

"""
The soft targets begin at 17 and fall to 8 in three epochs. Next to them,
features of 1.0 are a whisper, and the code form of attention, 0.008, is silent.
With a weight of 10 the features come to about the size of the soft targets. We
give the paper form of attention the same 10. The code form would need its
authors' 1000 to say anything.

A part should be of about the size of the others, or somewhat smaller. There is
no need to be more exact than that.

## Compare

Four students, three seeds each.
"""

results = {}


def record(name, train):
    scores, trained = [], []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        student = make_transformer()
        trained.append(train(student))
        scores.append(accuracy(student))
    results[name] = scores
    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    print(f"{name}: {np.mean(scores):.1f} +- {spread:.1f} %")
    return trained[0]


def train_alone(student):
    steps = EPOCHS * len(train_images) // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(6e-3, steps)
    student.compile(keras.optimizers.Adam(schedule), classification_loss())
    student.fit(
        train_images,
        train_labels,
        batch_size=BATCH_SIZE,
        epochs=EPOCHS,
        verbose=0,
    )


record("alone", train_alone)
record("soft targets", lambda student: distill(student, [soft_targets()]))
record(
    "+ features",
    lambda student: distill(student, [soft_targets(), features(10.0)]),
)
guided, _ = record(
    "+ attention",
    lambda student: distill(student, [soft_targets(), attention(10.0)]),
)

figure, axis = plt.subplots(figsize=(8, 2.6))
for row, scores in enumerate(results.values()):
    axis.plot(scores, [row] * len(scores), "o", alpha=0.6)
    axis.plot(np.mean(scores), row, "k|", markersize=18)
axis.set_yticks(range(len(results)), list(results))
axis.invert_yaxis()
axis.set_xlabel("test accuracy (%); one dot a seed, a bar for the mean")
axis.grid(axis="x", alpha=0.3)
figure.tight_layout()
plt.savefig("features_and_attention.png", dpi=120)
plt.close(figure)

"""
Test accuracy in percent, mean and standard deviation over three seeds, on a
CPU. The teacher is one run on each backend.

| student                       | JAX         | PyTorch     | TensorFlow  |
|-------------------------------|-------------|-------------|-------------|
| alone                         | 94.0 +- 2.2 | 93.6 +- 0.6 | 95.1 +- 1.2 |
| soft targets                  | 94.7 +- 1.2 | 94.0 +- 1.3 | 95.1 +- 1.3 |
| soft targets + features (10)  | 95.7 +- 0.3 | 95.1 +- 0.5 | 95.7 +- 0.6 |
| soft targets + attention (10) | 95.5 +- 0.9 | 95.6 +- 0.6 | 95.0 +- 0.2 |
| teacher                       | 97.0        | 97.2        | 98.0        |

(In parentheses the weight; the plot shows the run on JAX.)

![Test accuracy of the students](features_and_attention.png)

What may we say of this? Soft targets alone gain less than a point, and the
seeds differ by more than that. Features on top have the better mean on all
three backends, by 0.6 to 1.1 points: small, but it keeps coming back. Attention
helps on two backends and not on the third. Which of the two is better can't be
told from this. It would take more seeds, and your own data.

A table of JAX alone would have looked more certain than it is.

We have not tuned the weights, nor tried to use both at once.

## Where do they look?

Did the attention arrive? `kd.losses.attention_map` computes the map of any
features. `kd.taps.run_tapped` reads features from any model, also outside of
training. The student's block has to go through the adapter that was trained
with it. We kept the distiller of the first seed, which has both.
"""

adapter = guided.transfers[1].adapters[0]


def attention_of(model, tap, adapt=None):
    batch = ops.convert_to_tensor(test_images[:5])
    _, views = kd.taps.run_tapped(model, batch, [kd.Tap(tap)], training=False)
    view = views[tap] if adapt is None else adapt(views[tap])
    maps = ops.reshape(kd.losses.attention_map(view), (-1, 4, 4))
    return ops.convert_to_numpy(ops.stop_gradient(maps))


rows = {
    "image": test_images[:5, :, :, 0],
    "teacher": attention_of(teacher, "conv3"),
    "student": attention_of(guided.student, "block2", adapter),
}
figure, axes = plt.subplots(3, 5, figsize=(7, 4.4))
for (name, maps), row in zip(rows.items(), axes):
    for axis, attention_image in zip(row, maps):
        colours = "gray_r" if name == "image" else "viridis"
        axis.imshow(attention_image, cmap=colours)
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(name)
figure.tight_layout()
plt.savefig("attention_maps.png", dpi=120)
plt.close(figure)

"""
![Attention of teacher and student](attention_maps.png)

Each small square is one of 16 positions; bright is active. For the 1 and the 0,
the student looks where the teacher looks. For the 7 and the second 5 it agrees
only in part.

## The adapters stay behind

Adapters are trained, and belong to the distiller. The student knows nothing of
them, so what you ship is as small as before.
"""

student_weights = guided.student.count_params()
adapter_weights = adapter.count_params()
print(f"Student: {student_weights:,} weights, adapter: {adapter_weights:,}")
trained = [id(variable) for variable in guided.trainable_variables]
print(all(id(v) in trained for v in adapter.trainable_variables))
guided.student.save("student.keras")
print(f"{accuracy(keras.saving.load_model('student.keras')):.1f} %")

"""
## From transformer to transformer

If both have `MultiHeadAttention` layers, the attention maps themselves can be
passed on. The tap `"block1/attention1:scores"` reads them: for each head and
each token, how it spreads its attention over all tokens.

Here the teacher has 4 heads and the student 2. An `AttentionAdapter` makes four
maps of two: each is a learned mixture. It would also resize, if the numbers of
tokens differed.
"""

keras.utils.set_random_seed(0)
wide_teacher = make_transformer(
    width=48, num_heads=4, num_blocks=1, name="wide_teacher"
)
train_alone(wide_teacher)
print(f"Transformer teacher: {accuracy(wide_teacher):.1f} %")

scores = kd.Transfer(
    kd.losses.FeatureMatching(),
    teacher="block1/attention1:scores",
    student="block1/attention1:scores",
    adapter=kd.layers.AttentionAdapter(),
    weight=100.0,
    name="scores",
)
small_student = make_transformer(width=16, num_heads=2, num_blocks=1)
distiller = kd.Distiller(wide_teacher, small_student, [soft_targets(), scores])
distiller.compile(keras.optimizers.Adam(5e-3), classification_loss())
history = distiller.fit(
    train_images,
    train_labels,
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    verbose=0,
)
for key in ("soft_targets_loss", "scores_loss", "hard_loss"):
    values = history.history[key]
    print(f"{key:20}{values[0]:10.4f}{values[-1]:10.4f}")
print(f"Student: {accuracy(small_student):.1f} %")

"""
Mind the weight. Attention probabilities are small numbers, and their squared
differences are tiny: without the factor 100, the scores' part would begin at
0.04, next to soft targets of 11. With it, the part falls from 3.7 to 2.2: two
heads of a small student can follow four heads of a larger one only so far.

In this one run the teacher reached 95.5 %, and the student, with a seventh of
its weights, 94.2 %. It shows that the parts fit together. It does not show that
the scores were what helped; for that, compare over seeds as above.

## A student cut from its teacher

So far we wrote the student ourselves. If it may be of the teacher's own
architecture, `kd.students.shrink` makes it: of a Functional model that repeats
its blocks it keeps some, with their weights, and returns a transfer for each,
so that a kept block learns to do the work of those that are gone. That is how
DistilBERT came from BERT. `width=` narrows the layers instead.
"""

keras.utils.set_random_seed(0)
deep_teacher = make_transformer(num_blocks=4, name="deep_teacher")
train_alone(deep_teacher)
student, blocks = kd.students.shrink(deep_teacher, depth=0.5)
print(f"Deep teacher: {accuracy(deep_teacher):.1f} %")
print("Its layers:", [layer.name for layer in student.layers])
for block in blocks:
    taught, learner = block.teacher_taps[0].text, block.student_taps[0].text
    print(f"{learner} learns to end where the teacher's {taught} ends")
print(f"Untrained, the student reaches {accuracy(student):.1f} %")

"""
What is it worth to begin with the teacher's weights? We give each student ten
epochs, a third of what the others had.
"""


def distill_cut(initialize, with_blocks):
    scores = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        student, blocks = kd.students.shrink(
            deep_teacher, depth=0.5, initialize=initialize
        )
        transfers = [soft_targets(), *(blocks if with_blocks else [])]
        distiller = kd.Distiller(deep_teacher, student, transfers)
        distiller.compile(keras.optimizers.Adam(2e-3), classification_loss())
        distiller.fit(
            train_images,
            train_labels,
            batch_size=BATCH_SIZE,
            epochs=10,
            verbose=0,
        )
        scores.append(accuracy(student))
    spread = np.std(scores, ddof=1) if len(scores) > 1 else 0.0
    name = f"{initialize}{', with blocks' if with_blocks else ''}"
    print(f"{name}: {np.mean(scores):.1f} +- {spread:.1f} %")


for initialize in ("random", "teacher"):
    for with_blocks in (False, True):
        distill_cut(initialize, with_blocks)

"""
Test accuracy in percent after ten epochs, three seeds, on JAX. The deep
teacher, one run, reaches 94.5 %; the student cut from it 71.0 % before it has
learned anything.

| the student's weights | soft targets | + blocks    |
|-----------------------|--------------|-------------|
| random                | 93.8 +- 0.8  | 90.8 +- 0.5 |
| the teacher's         | 95.3 +- 0.2  | 95.4 +- 0.2 |

To begin with the teacher's weights is worth more than a point. The transfers
between the blocks add nothing to that here, and from random weights they
hinder. Look at the parts in the logs, as above, before you choose their weight.

## Conclusion

A transfer is a loss between two taps. An adapter joins what differs, and is
left behind at the end. Any loss goes with any adapter and any taps, so a new
idea is most often one line.

Soft targets alone are the measure to beat. Add one transfer at a time, look at
its part in the logs, and compare over several seeds. Keep it if it helps.

Where next:

- `help(kd.taps.Tap)`: all that a tap can name;
- `help(kd.layers.FeatureAdapter)`: the table of what it joins;
- `help(kd.losses.DistillationLoss)`: write a loss of your own.
"""
