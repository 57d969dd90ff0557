"""
Title: Training in stages with teacher assistants
Author: keras_kd developers
Date created: 2026/11/21
Last modified: 2026/11/30
Description: Train a chain of students, resume it, and see whether it helps.
Accelerator: None
Needs: pip install ".[jax,examples]"
"""

"""
## Introduction

A very large teacher is not always the best one for a very small student. A
*teacher assistant* is a model of middle size: it is distilled from the large
teacher, and then it is the teacher of the small student (TAKD,
[Mirzadeh et al., 2019](https://arxiv.org/abs/1902.03393)).

So training becomes a chain of stages. `kd.schemes.Chain` runs them one after
another, writes a report, and continues where it stopped after an interruption.
In this guide you will

- describe a stage, train a chain, and read its report;
- interrupt a chain in the middle, and resume it;
- use all earlier models as teachers (*densely guided*, DGKD), and train the
  same small model again and again (*born-again* networks, BAN);
- compare all of this with direct distillation. Assistants do not always help.

Read [Getting started](getting_started.ipynb) first.
"""

import ast
import pathlib
import sysconfig
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import train_test_split

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and few of the ways that are compared.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)
EPOCHS = 20
BATCH_SIZE = 100

"""
## The data: which package is it from?

Python's own library is the data. The task: see the code of a function, and name
the package that it comes from. The input is which of the 1,000 most frequent
words occur in the code. (Another version of Python gives somewhat other
numbers.)
"""

packages = ["asyncio", "email", "encodings", "http", "importlib", "logging"]
packages += ["multiprocessing", "unittest", "urllib", "xml"]


def functions(package):
    # The code of each, without comments, and each only once.
    folder = pathlib.Path(sysconfig.get_path("stdlib")) / package
    paths = sorted(folder.rglob("*.py"))
    nodes = [
        node
        for path in paths
        if not {"test", "tests"} & set(path.relative_to(folder).parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
    ]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    codes = [ast.unparse(node) for node in nodes if isinstance(node, kinds)]
    return list(dict.fromkeys(codes))


codes, numbers = [], []
for number, package in enumerate(packages):
    found = functions(package)
    codes += found
    numbers += [number] * len(found)

train_codes, test_codes, all_labels, test_labels = train_test_split(
    codes, np.array(numbers), test_size=1000, stratify=numbers, random_state=0
)
words = CountVectorizer(
    token_pattern="[A-Za-z]+", max_features=1000, binary=True
)
x = words.fit_transform(train_codes).toarray().astype("float32")
test_x = words.transform(test_codes).toarray().astype("float32")
print(f"{len(x)} functions to train with, {len(test_x)} to test")

"""
The teacher was trained on all labels. We have only 200 of them. A label of -1
means unknown, and the loss ignores it.
"""

known, _ = train_test_split(
    np.arange(len(x)), train_size=200, stratify=all_labels, random_state=0
)
labels = np.full(len(x), -1)
labels[known] = all_labels[known]

"""
## Three models

The student has one hidden layer of four units, the teacher one of 512: a wide
gap. The assistant has 16.
"""


def make_dense(units):
    hidden = layers.Dense(units, activation="tanh")
    return keras.Sequential([keras.Input((1000,)), hidden, layers.Dense(10)])


def make_assistant():
    return make_dense(16)


def make_student():
    return make_dense(4)


def compile_arguments():
    return {
        "optimizer": keras.optimizers.Adam(3e-3),
        "loss": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        ),
        "metrics": ["accuracy"],
    }


def accuracy(model):
    logits = model.predict(test_x, batch_size=len(test_x), verbose=0)
    return 100 * np.mean(np.argmax(logits, axis=-1) == test_labels)


keras.utils.set_random_seed(0)
teacher = keras.Sequential(
    [
        keras.Input((1000,)),
        layers.Dropout(0.5),
        layers.Dense(512, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10),
    ]
)
teacher.compile(**compile_arguments())
teacher.fit(x, all_labels, batch_size=BATCH_SIZE, epochs=5, verbose=0)
for model in (teacher, make_assistant(), make_student()):
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


def make_stage(name, student, temperature=1.0, **arguments):
    def transfers(teachers):
        loss = kd.losses.SoftTargets(temperature)
        return [kd.Transfer(loss, weight=0.9)]

    settings = {
        "epochs": EPOCHS,
        "compile": compile_arguments,
        "transfers": transfers,
        **arguments,
    }
    return kd.schemes.Stage(name, student, **settings)


def fit(chain, **arguments):
    return chain.fit(x, labels, batch_size=BATCH_SIZE, verbose=0, **arguments)


def with_assistant(temperature=1.0, **arguments):
    return [
        make_stage("assistant", make_assistant, temperature),
        make_stage("student", make_student, temperature, **arguments),
    ]


chain = kd.schemes.Chain(
    teacher, with_assistant(), folder=runs / "first", seed=0
)
report = fit(chain, validation_data=(test_x, test_labels))
print(f"Student: {accuracy(chain.student):.1f} %")

"""
`chain.fit` takes the arguments of `fit`, and passes them to every stage. The
student of the first stage was the teacher of the second. `chain.student` is the
last one, a plain Keras model; all of them are in `chain.students`.

`fit` returns the report. It is in the folder, too, as `report.json`. (The
accuracy is that of the validation data. We gave it the test data, as we choose
nothing by it.)
"""

for stage in report:
    print(
        f"{stage['stage']:10} teacher: {', '.join(stage['teachers']):10}"
        f"{stage['parameters']:7,} weights, {stage['epochs']} epochs, "
        f"accuracy {100 * stage['metrics']['accuracy']:.1f} %"
    )
print(sorted(path.name for path in (runs / "first").iterdir()))

"""
## Interrupted, and resumed

Now we interrupt a chain in the second stage, in the middle of the training, as
Ctrl+C would. A callback does it for us. (Callbacks have a state, too, so a
stage has a function that makes them.)
"""


def press_control_c(epoch, logs):
    if epoch == (0 if TRIAL else 12):
        raise KeyboardInterrupt


def print_epoch(epoch, logs):
    print(f"epoch {epoch}", end=", ")


def make_chain(on_epoch_begin):
    def callbacks():
        return [keras.callbacks.LambdaCallback(on_epoch_begin)]

    stages = with_assistant(callbacks=callbacks)
    return kd.schemes.Chain(teacher, stages, folder=runs / "second", seed=0)


try:
    fit(make_chain(press_control_c))
except KeyboardInterrupt:
    print("Interrupted in the second stage.")
print(sorted(path.name for path in (runs / "second").iterdir()))

again = make_chain(print_epoch)
fit(again)
print(f"then {accuracy(again.student):.1f} %")

"""
To continue, the same program runs again. The new chain finds the finished
assistant in the folder, and trains the student from its last complete epoch.
Nothing was trained twice, and the student is the same as without an
interruption. The process may also be killed: each file is written completely or
not at all.

The folder also holds the settings: with another teacher, another seed, or other
settings of a finished stage, the chain raises an error.

## Do the assistants help?

A fair comparison runs from several seeds, here three. A chain trains for more
epochs in all, so there is a direct run of as many epochs, too. And we try two
temperatures. The larger one gives the student more to learn, which may be too
much for four units. If assistants help, it is there.
"""

scores = {}


def show(name, students):
    scores[name] = [accuracy(student) for student in students]
    spread = np.std(scores[name], ddof=1) if len(SEEDS) > 1 else 0.0
    print(f"{name:32}{np.mean(scores[name]):5.1f} ± {spread:.1f} %")


def compare(name, stages):
    chains = []
    for seed in SEEDS:
        folder = runs / f"{name}, seed {seed}"
        chain = kd.schemes.Chain(teacher, stages, folder=folder, seed=seed)
        fit(chain)
        chains.append(chain)
    show(name, [chain.student for chain in chains])
    return chains


def train_alone(seed):
    keras.utils.set_random_seed(seed)
    student = make_student()
    student.compile(**compile_arguments())
    # As many steps as on all functions.
    epochs = EPOCHS * len(x) // len(known)
    student.fit(x[known], labels[known], BATCH_SIZE, epochs=epochs, verbose=0)
    return student


show("labels alone", [train_alone(seed) for seed in SEEDS])


def direct(temperature=1.0, epochs=EPOCHS):
    return [make_stage("student", make_student, temperature, epochs=epochs)]


compare("direct", direct())
if not TRIAL:
    compare("direct, twice the epochs", direct(epochs=2 * EPOCHS))
    compare("assistant", with_assistant())
    compare("direct, temperature 4", direct(4.0))
    compare("assistant, temperature 4", with_assistant(4.0))

"""
### Densely guided

In a chain the errors add up, as the student never sees the teacher's own
predictions. With `teachers="all"` a stage has as teachers the first teacher
*and* all assistants before it, and in each batch some of them are left out at
random ([Son et al., 2021](https://arxiv.org/abs/2009.08825)).
"""


def densely_guided(teachers):
    return kd.schemes.densely_guided(teachers, temperature=1.0)


compare(
    "assistant, densely guided",
    with_assistant(teachers="all", transfers=densely_guided),
)

"""
### Born again

No assistant this time. The student is distilled from the teacher, then a new
student of the same size from that one, and so on
([Furlanello et al., 2018](https://arxiv.org/abs/1805.04770)).
`kd.schemes.born_again` makes the stages. At the end all generations can be used
together, as an ensemble: three small models.
"""

generations = compare(
    "born again, third generation",
    kd.schemes.born_again(
        make_student, 3, epochs=EPOCHS, compile=compile_arguments
    ),
)
show(
    "born again, ensemble of three",
    [kd.teachers.Ensemble(chain.students) for chain in generations],
)

figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
for row, values in enumerate(scores.values()):
    axis.plot(values, [row] * len(values), "o", alpha=0.6)
    axis.plot(np.mean(values), row, "k|", markersize=18)
axis.set_yticks(range(len(scores)), list(scores))
axis.invert_yaxis()
axis.set_xlabel("test accuracy of the student (%)")
axis.grid(axis="x", alpha=0.3)
plt.savefig("teacher_assistants.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy: a dot for each seed, a bar for the mean.*

- **Distillation pays**: more than twenty points over training on 200 labels.
- **An assistant does not**, here. It is as good as the teacher itself, with a
  thirtieth of its weights, but the student learns no more from it than from the
  teacher. The same holds for the densely guided student.
- **Where the gap matters, it may help a little.** At temperature 4 the student
  of the assistant is a point better than the direct one. That is about the
  spread, and temperature 1 is better for both.
- **At equal cost direct distillation is best**: twice the epochs gain another
  point.
- **The third generation is worse** than a direct student, as errors add up.
  The ensemble of all three is as good as one direct student.

This is one small data set. The papers found gains of one to several points on
CIFAR and ImageNet, with much deeper networks. Compare on your data in the same
way: at the best temperature, and with the epochs of the whole chain.

## Conclusion

`kd.schemes.Chain` trains students in stages, and can be stopped at any moment.
Each stage may have other transfers, other callbacks, or all earlier models as
teachers. But try direct distillation first, for as long as a chain would take.

Next: [Features and attention](features_and_attention.ipynb), or
[Ensembles and heterogeneous teachers](teacher_ensembles.ipynb).
"""
