"""
Title: Training in stages with teacher assistants
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/21
Description: Train a chain of students, and see whether assistants help.
Accelerator: None
"""

"""
## Introduction

A very large teacher is not always the best one for a very small student. A
*teacher assistant* is a model of middle size: it is distilled from the large
teacher, and then it is the teacher of the small student (TAKD,
[Mirzadeh et al., 2019](https://arxiv.org/abs/1902.03393)).

So training becomes a chain of stages, and that takes long. `kd.schemes.Chain`
runs the stages one after another, writes a report, and continues where it
stopped after an interruption.

In this guide you will

- describe a stage, and train a chain of two or three;
- read the report;
- interrupt a chain in the middle, and resume it;
- use all earlier models as teachers (*densely guided*, DGKD), and train the
  same small model again and again (*born-again* networks, BAN);
- compare all of this with direct distillation, over several seeds and at equal
  cost.

The last point matters: assistants do not always help.
"""

import pathlib
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and one value of each setting.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)
EPOCHS = 40
BATCH_SIZE = 50

"""
## The data

The 8x8 digits of scikit-learn: 900 to train with, 297 to choose settings with,
600 for the test. As in *Getting started*, a teacher was trained on all 900
labels, and we have only 100 of them. A label of -1 means unknown.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))

images, test_images, labels, test_labels = train_test_split(
    images, labels, test_size=600, stratify=labels, random_state=0
)
train_images, valid_images, all_labels, valid_labels = train_test_split(
    images, labels, test_size=297, stratify=labels, random_state=0
)
known, _ = train_test_split(
    np.arange(900), train_size=100, stratify=all_labels, random_state=0
)
train_labels = np.full(900, -1)
train_labels[known] = all_labels[known]

"""
## Four models

The teacher is a convolutional network. The student has one hidden layer of six
units, and 70 times fewer weights: a wide gap. Two networks of 64 and 16 units
lie in between.
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


def make_dense(units):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(units, activation="tanh"),
            layers.Dense(10),
        ]
    )


def make_large():
    return make_dense(64)


def make_medium():
    return make_dense(16)


def make_student():
    return make_dense(6)


"""
Each model needs a new optimizer, so we write a function that makes the
arguments of `compile`. The loss ignores the labels that are not known.
"""


def compile_arguments():
    return {
        "optimizer": keras.optimizers.Adam(5e-3),
        "loss": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        ),
        "metrics": ["accuracy"],
    }


def accuracy(model, images=test_images, labels=test_labels):
    logits = model.predict(images, batch_size=600, verbose=0)
    return 100 * np.mean(np.argmax(logits, axis=-1) == labels)


keras.utils.set_random_seed(0)
teacher = make_teacher()
teacher.compile(**compile_arguments())
teacher.fit(
    train_images, all_labels, batch_size=BATCH_SIZE, epochs=20, verbose=0
)
for model in (teacher, make_large(), make_medium(), make_student()):
    print(f"{model.count_params():,} weights")
print(f"Teacher: {accuracy(teacher):.1f} %")

"""
## A chain

A `Stage` is one student: a name, a function that makes it, and how it is
trained. A `Chain` has a teacher, a list of stages, and a folder for its files.
Choose a permanent folder, such as `"runs/assistants"`; here it is a temporary
one.

Why functions, in place of models and optimizers? So that a stage can start
again, in another process if necessary, exactly as it started the first time.
"""

runs = pathlib.Path(tempfile.mkdtemp())


def soft_targets(temperature):
    def transfers(teachers):
        loss = kd.losses.SoftTargets(temperature)
        return [kd.Transfer(loss, weight=0.9)]

    return transfers


def make_stage(name, student, temperature=2.0, **kwargs):
    arguments = {
        "epochs": EPOCHS,
        "compile": compile_arguments,
        "transfers": soft_targets(temperature),
        **kwargs,
    }
    return kd.schemes.Stage(name, student, **arguments)


chain = kd.schemes.Chain(
    teacher,
    [make_stage("medium", make_medium), make_stage("student", make_student)],
    folder=runs / "first",
    seed=0,
)
report = chain.fit(
    train_images,
    train_labels,
    validation_data=(valid_images, valid_labels),
    batch_size=BATCH_SIZE,
    verbose=0,
)

"""
`chain.fit` takes the arguments of `fit`, and passes them to every stage. The
student of the first stage was the teacher of the second. `chain.student` is the
last one, a plain Keras model; all of them are in `chain.students`.

## The report

`fit` returns it, `chain.report` reads it, and it is in the folder as
`report.json`, next to the students' files.
"""

for stage in report:
    print(
        f"{stage['stage']:8} teacher {', '.join(stage['teachers']):8}"
        f"{stage['parameters']:6,} weights {stage['epochs']:3} epochs "
        f"{stage['seconds']:5.1f} s  validation accuracy "
        f"{100 * stage['metrics']['accuracy']:.1f} %"
    )
last = {key: values[-1] for key, values in report[-1]["history"].items()}
print({key: round(value, 3) for key, value in last.items()})
print(sorted(path.name for path in (runs / "first").iterdir()))

"""
## Interrupted

Now we interrupt a chain in the second stage, in the middle of the training, as
Ctrl+C would. A callback does it for us. (Callbacks have a state, too, so a
stage has a function that makes them.)
"""


class PressControlC(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == (0 if TRIAL else 25):
            raise KeyboardInterrupt


def make_chain(callbacks=None):
    stages = [
        make_stage("medium", make_medium),
        make_stage("student", make_student, callbacks=callbacks),
    ]
    return kd.schemes.Chain(teacher, stages, folder=runs / "interrupted")


try:
    make_chain(lambda: [PressControlC()]).fit(
        train_images, train_labels, batch_size=BATCH_SIZE, verbose=0
    )
except KeyboardInterrupt:
    print("Interrupted in the second stage.")
print(sorted(path.name for path in (runs / "interrupted").iterdir()))

"""
To continue, run the same program again. A new chain with the same folder loads
the finished student, and continues with the next one after its last complete
epoch.
"""


class PrintEpochs(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_train_end(self, logs=None):
        print(f"Trained: epochs {self.epochs[0]} to {self.epochs[-1]}.")


again = make_chain(lambda: [PrintEpochs()])
again.fit(train_images, train_labels, batch_size=BATCH_SIZE, verbose=0)
print(f"In the report: {again.report[-1]['epochs']} epochs.")

"""
Nothing was trained twice, and the report counts all epochs. The process may
also be killed: each file is written completely or not at all.

The optimizer, the adapters, the schedules, the random numbers and callbacks
that count epochs, such as `EarlyStopping`, continue where they stopped. The
students are the same as without an interruption, bit for bit, with shuffled
arrays, too. For which other data this holds is described in
`kd.callbacks.EpochBackup`. A second process in the same folder gets an error.

The folder also holds the settings. With another teacher, another seed, or other
settings of a finished stage, the chain raises an error:
"""

try:
    kd.schemes.Chain(
        teacher, [make_stage("tiny", make_student)], folder=runs / "interrupted"
    ).fit(train_images, train_labels)
except ValueError as error:
    print(error)

"""
## Do the assistants help?

A fair comparison needs some care. Everything runs from three seeds. A chain
trains for more epochs in all, so there is a direct run of as many epochs, too.
And direct distillation gets the temperature that is best for *it*, chosen on
the validation images.
"""

scores, valid_scores = {}, {}


def train_chain(stages, folder, seed):
    chain = kd.schemes.Chain(teacher, stages, folder=folder, seed=seed)
    chain.fit(train_images, train_labels, batch_size=BATCH_SIZE, verbose=0)
    return chain


def record(name, stages):
    chains = [
        train_chain(stages, runs / f"{name}, seed {seed}", seed)
        for seed in SEEDS
    ]
    scores[name] = [accuracy(chain.student) for chain in chains]
    valid_scores[name] = [
        accuracy(chain.student, valid_images, valid_labels) for chain in chains
    ]
    show(name)
    return chains


def show(name):
    spread = np.std(scores[name], ddof=1) if len(SEEDS) > 1 else 0.0
    print(f"{name:32}{np.mean(scores[name]):5.1f} +- {spread:.1f} %")


scores["alone, 100 labels"] = []
for seed in SEEDS:
    keras.utils.set_random_seed(seed)
    student = make_student()
    student.compile(**compile_arguments())
    student.fit(
        train_images[known],
        train_labels[known],
        batch_size=BATCH_SIZE,
        # As many steps as on 900 images.
        epochs=9 * EPOCHS,
        verbose=0,
    )
    scores["alone, 100 labels"].append(accuracy(student))
show("alone, 100 labels")

for temperature in (1.0,) if TRIAL else (1.0, 2.0, 4.0):
    record(
        f"direct, temperature {temperature:g}",
        [make_stage("student", make_student, temperature)],
    )
best = max(valid_scores, key=lambda name: np.mean(valid_scores[name]))
best_temperature = float(best.split()[-1])
print(f"Best on the validation images: {best}.")

"""
Now the others, all at that temperature. First direct distillation with as many
epochs as a chain of three stages.
"""


def stages_of(*names, temperature=best_temperature, **kwargs):
    makers = {
        "large": make_large,
        "medium": make_medium,
        "student": make_student,
    }
    return [
        make_stage(name, makers[name], temperature, **kwargs) for name in names
    ]


record("direct, 3 times the epochs", stages_of("student", epochs=3 * EPOCHS))
record("one assistant", stages_of("medium", "student"))
two_assistants = record(
    "two assistants", stages_of("large", "medium", "student")
)

"""
At a high temperature direct distillation was worst: six units are too few for
all that the soft targets then contain. If assistants help, it is there. So we
repeat both at temperature 4.
"""

record(
    "two assistants, temperature 4",
    stages_of("large", "medium", "student", temperature=4.0),
)
record(
    "direct, 3 times, temperature 4",
    stages_of("student", temperature=4.0, epochs=3 * EPOCHS),
)

"""
### Densely guided

In a chain the errors add up, as the student never sees the teacher's own
predictions. With `teachers="all"` each stage has as teachers the first teacher
*and* all assistants before it, and in each batch some of them are left out at
random ([Son et al., 2021](https://arxiv.org/abs/2009.08825)).
"""

record(
    "two assistants, densely guided",
    stages_of(
        "large",
        "medium",
        "student",
        teachers="all",
        transfers=lambda teachers: kd.schemes.densely_guided(
            teachers, temperature=best_temperature
        ),
    ),
)

"""
### Born again

No assistant this time. The student is distilled from the teacher, then a new
student of the same size from that one, and so on
([Furlanello et al., 2018](https://arxiv.org/abs/1805.04770)).
`kd.schemes.born_again` makes the stages. At the end all generations can be used
together, as an ensemble: a larger model, but still a small one.
"""

generations = record(
    "born again, third generation",
    kd.schemes.born_again(
        make_student, 3, epochs=EPOCHS, compile=compile_arguments
    ),
)
name = "born again, ensemble of three"
scores[name] = [
    accuracy(kd.teachers.Ensemble(chain.students)) for chain in generations
]
show(name)

"""
## Results

First the accuracy of the assistants themselves.
"""

for place, name in enumerate(("large", "medium", "student")):
    students = [chain.students[place] for chain in two_assistants]
    means = np.mean([accuracy(student) for student in students])
    print(f"two assistants, {name}: {means:.1f} %")
for place in range(3):
    students = [chain.students[place] for chain in generations]
    means = np.mean([accuracy(student) for student in students])
    print(f"born again, generation {place + 1}: {means:.1f} %")

names = list(scores)[::-1]
figure, axis = plt.subplots(figsize=(8, 4))
for row, name in enumerate(names):
    axis.plot(scores[name], [row] * len(SEEDS), "o", color="tab:blue")
    axis.plot(np.mean(scores[name]), row, "|", color="black", markersize=18)
axis.set_yticks(range(len(names)), names)
axis.set_xlabel("test accuracy of the student, %")
axis.set_title("One point for each seed; the bar is the mean")
figure.tight_layout()
plt.savefig("teacher_assistants.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy of the student, over three seeds.*

Three seeds on JAX, on a CPU: mean and standard deviation of the test accuracy
in %. The teacher, one run, reaches 98.2 %. The last column counts the epochs of
all stages together.

| the student of 460 weights     | test accuracy | epochs |
| ------------------------------ | ------------- | ------ |
| alone, 100 labels              | 86.3 ± 0.9    |        |
| direct, temperature 1          | 93.4 ± 1.0    | 40     |
| direct, temperature 2          | 91.9 ± 1.3    | 40     |
| direct, temperature 4          | 90.3 ± 0.9    | 40     |
| direct, temperature 1, longer  | 94.6 ± 0.5    | 120    |
| direct, temperature 4, longer  | 93.7 ± 1.3    | 120    |
| one assistant                  | 93.7 ± 1.4    | 80     |
| two assistants                 | 93.6 ± 0.1    | 120    |
| two assistants, temperature 4  | 92.0 ± 1.6    | 120    |
| two assistants, densely guided | 93.2 ± 0.3    | 120    |
| born again, third generation   | 93.3 ± 0.2    | 120    |
| born again, ensemble of three  | 94.3 ± 0.6    | 120    |

("Alone" makes as many steps as 40 epochs. Where no temperature is given, it is
1, which was best on the validation images.)

- **Distillation pays**: seven points over training on the 100 labels.
- **The assistants do not**, here. Their own accuracy is high, 97.6 % and 97.0
  %, but the student learns no more from them than from the teacher: all the
  chains at temperature 1 are within the spread of direct distillation.
- **Where the gap matters, they may help a little.** At temperature 4 two
  assistants reach 92.0 % in place of 90.3 %. That is about the size of the
  spread, and three seeds are too few to be sure.
- **At equal cost direct distillation is best.** Simply training the student for
  120 epochs gives the best single student, 94.6 %. It is better than the
  assistants at temperature 4 as well.
- **Generations do not improve** from the first to the third (93.6, 93.4, 93.3
  %). Their ensemble is better than any of them, with three times the weights.

This is one small data set, and easy for the teacher. The papers found gains of
one to several points on CIFAR and ImageNet, with much deeper networks. The
method of comparison is the same for your data: first a direct run with the best
temperature and with the epochs of the whole chain, then the chain.

## Conclusion

`kd.schemes.Chain` trains students in stages, and can be stopped at any moment.
The report has the results of each stage, and `chain.student` is a plain Keras
model. Each stage may have other transfers, other callbacks, or all earlier
models as teachers.

Try direct distillation first, and for long enough.

Where next:

- `help(kd.schemes.Stage)`: all options of a stage;
- `help(kd.teachers.Ensemble)`: several teachers as one;
- *Getting started*: temperature, weight, and images without labels.
"""
