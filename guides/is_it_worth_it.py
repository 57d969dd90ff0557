"""
Title: Is distillation worth it?
Author: keras_kd developers
Date created: 2026/11/30
Last modified: 2026/11/30
Description: Compare the teacher, the student alone and distilled, and read it.
Accelerator: None
"""

"""
## Introduction

A distilled student has an accuracy. That number alone says little: perhaps the
student would have been as good without its teacher, or with a minute more of
training, or it was lucky with its first weights. So we need the student *alone*
beside it, trained for as long, and both from several seeds.

`kd.compare` does that in one call. In this guide you will

- compare where distillation pays, and where it does *not*;
- read paired differences, and what their interval says;
- compare at equal *time* in place of equal steps;
- keep finished runs in a folder, and send a report to someone.

You should know the guide *Getting started*. All of it runs on a laptop's CPU in
about two minutes.

```shell
pip install ".[jax,examples]"  # in a clone of the repository
```
"""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one
# seed.
SEEDS = range(1 if keras.config.max_epochs() == 1 else 5)

"""
## The setting

The 8x8 digits of scikit-learn: 1,000 to train with, 797 for the test. Someone
trained a convolutional network on all 1,000 labels and gave it to us. Our
student is to have one hidden layer.
"""

images, labels = load_digits(return_X_y=True)
images = (images / 16.0).astype("float32").reshape((-1, 8, 8, 1))
train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=797, stratify=labels, random_state=0
)
test_data = (test_images, test_labels)


def make_teacher():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(10)(x)
    return keras.Model(inputs, outputs, name="teacher")


def make_student():
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    x = layers.Dense(32, activation="relu")(x)
    outputs = layers.Dense(10)(x)
    return keras.Model(inputs, outputs, name="student")


"""
Each run needs an optimizer of its own: one that has trained before starts with
what it has summed up. So the arguments of `compile` come from a function. A
label of -1 means that it is unknown.
"""


def settings():
    return {
        "optimizer": keras.optimizers.Adam(5e-3),
        "loss": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        ),
    }


keras.utils.set_random_seed(0)
teacher = make_teacher()
teacher.compile(**{**settings(), "optimizer": "adam"})
teacher.fit(train_images, train_labels, batch_size=50, epochs=20, verbose=0)

"""
## Few labels, many images

First, we have only 100 of the labels, others with each seed. The student alone
can use these; the distilled student sees all 1,000 images, as the teacher says
something about each. A function of the seed gives the data of a run, and a
`kd.Way` says where a way differs from the others.

Both make 800 steps. With a seed, both start from the same weights.
"""


def known(seed):
    chosen, _ = train_test_split(
        np.arange(1000),
        train_size=100,
        stratify=train_labels,
        random_state=seed,
    )
    return chosen


def labeled(seed):
    return train_images[known(seed)], train_labels[known(seed)]


def partly_labeled(seed):
    partly = np.full_like(train_labels, -1)
    partly[known(seed)] = train_labels[known(seed)]
    return train_images, partly


def compare_few_labels():
    return kd.compare(
        teacher,
        make_student,
        partly_labeled,
        test_data,
        compile=settings,
        steps=800,
        batch_size=50,
        seeds=SEEDS,
        ways={"student alone": kd.Way(train_data=labeled)},
        folder="few_labels",
    )


few_labels = compare_few_labels()
print(few_labels)

"""
The report says it in sentences, at the end. Here are those of a run on JAX:

> Distillation pays here: the student reaches 95.9 ± 0.2 % accuracy distilled
> and 89.3 ± 1.4 % alone; the paired difference over 5 seeds is +6.6 points
> (95 % interval +4.8 to +8.4), beyond the spread.

The class that gains most is the 8: from 70.1 % to 90.6 %.

Above the sentences stand four tables:

- **Quality**: the metric, the paired difference to the student alone, agreement
  with the teacher, and calibration error (confidence against accuracy).
- **Cost of the model**: parameters, bytes, FLOPs, and milliseconds on your
  machine. FLOPs are counted by layers, and are the same on each backend.
  Latency is not: a network this small mostly waits for Keras.
- **Cost of training**: steps, seconds, CPU seconds; compiling is apart.
- **Accuracy by class**: a student may gain in the mean and lose a class.

## Reading a paired difference

Here is what each seed gave.
"""

alone = 100 * few_labels.values("student alone")
distilled = 100 * few_labels.values("student distilled")
print("seed  alone  distilled  difference")
for seed, one, two in zip(SEEDS, alone, distilled):
    print(f"{seed:4}{one:7.1f}{two:11.1f}{two - one:+12.1f}")

"""
| seed | alone | distilled | difference |
|------|-------|-----------|------------|
| 0    | 91.1  | 95.7      | +4.6       |
| 1    | 88.8  | 95.7      | +6.9       |
| 2    | 88.7  | 95.9      | +7.2       |
| 3    | 90.1  | 95.9      | +5.8       |
| 4    | 87.6  | 96.1      | +8.5       |

With the same seed, both ways have the same 100 labels and the same first
weights. What luck both share cancels out in the difference of a row. So we look
at the mean of the differences, and at how much *they* vary:

```
mean ± t * standard deviation of the differences / sqrt(number of seeds)
```

That is the 95 % interval. The factor `t` is Student's: 12.7 for two seeds, 4.3
for three, 2.8 for five. Two seeds are rarely enough. If 0 is outside of the
interval, the report calls the difference *beyond the spread* and marks it with
a star.

How much pairing helps depends on how much luck is shared. Here it is little:
the student alone depends on which 100 labels it got, and the distilled student
hardly does. The differences vary as much as the student alone. But all five
point the same way, and 0 is far from the interval.
"""

found = few_labels.difference("student distilled", "student alone")
low, high = 100 * found.low, 100 * found.high
print(
    f"{100 * found.mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
)
print(f"beyond the spread: {found.beyond}")

"""
## All labels

Now we have all 1,000 labels. The call is shorter: all ways train on the same
data. We add a way, the student distilled at temperature 1. A way is a function
of the teacher and of a new student that returns what is fitted.
"""

WAYS = {
    "student distilled, T=1": lambda teacher, student: kd.Distiller(
        teacher, student, kd.Transfer(kd.losses.SoftTargets(1.0), weight=0.9)
    )
}


def compare_all_labels(**arguments):
    return kd.compare(
        teacher,
        make_student,
        (train_images, train_labels),
        test_data,
        compile=settings,
        batch_size=50,
        seeds=SEEDS,
        **arguments,
    )


all_labels = compare_all_labels(steps=800, ways=WAYS)
print(all_labels)

"""
On JAX:

|                        | accuracy % | against alone       |
|------------------------|------------|---------------------|
| teacher                | 97.4       |                     |
| student alone          | 97.0 ± 0.3 |                     |
| student distilled      | 95.9 ± 0.2 | -1.1 (-1.6 to -0.7) |
| student distilled, T=1 | 96.0 ± 0.3 | -1.0 (-1.6 to -0.5) |

Distillation *hurts* here, by a point, and that is beyond the spread. The
student alone comes within half a point of the teacher: what it could learn from
it, the labels say better. The temperature makes no difference. Note that the
distilled student is as good as before: 95.9 % with 100 labels, and 95.9 % with
1,000. Its targets come from the teacher, and the labels count little beside
them.

That is a result, too. It saves you a teacher, and its pass in each step.

## The same time

A step of distilling costs more, as the teacher runs as well. Perhaps the
student alone would use that time better? Give `seconds` in place of `steps`.
What compiles is left out of that time: the first step, and the last step of the
first epoch, which may have a batch of another size.
"""

same_time = compare_all_labels(seconds=1.0)
for way in same_time.ways[1:]:
    steps = same_time.values(way, "steps").mean()
    accuracy = 100 * same_time.values(way).mean()
    print(f"{way:24}{steps:8.0f} steps {accuracy:6.1f} %")
print(same_time.sentences()[0])

"""
In a second, the student alone made 3,048 steps on our machine, and reached 97.0
%. The distilled student made 914 and reached 95.9 %. So here nothing was lost
by ending early, and nothing was gained by going on: the conclusion is the same.

Seconds depend on the machine and on what else it does: give such numbers
together with the steps, and compare on a machine that is not busy.

## Finished runs are kept

Our first comparison has a `folder`. Each finished run is there in whole: what
was measured of it, and its weights. If the program is interrupted, run it
again, and only what is missing is trained. Once all is there, nothing is:
"""

again = compare_few_labels()
print(
    again.values("student distilled") == few_labels.values("student distilled")
)

"""
More seeds or ways may be added. Other data, models or settings are refused:
their runs could not be compared with those in the folder.

A run's weights are in `few_labels/student_distilled_seed_0.npz`, in the order
of `get_weights`.

## Send it to someone

`to_html` writes one file without anything to load. It can be read on a phone.
`to_json` gives all numbers as text, `from_json` reads it, and `plot` draws.
"""

few_labels.to_html("is_it_worth_it.html")
everything = few_labels.to_json()
figure = few_labels.plot()
figure.savefig("is_it_worth_it.png", dpi=120)
figure  # noqa: B018

"""
*Figure: Each seed's accuracy, and the paired difference.*

## What the report can't say

- **Other test images.** The interval is about other seeds. With 797 images, an
  accuracy of 95 % has a standard error of 0.8 points of its own, which both
  ways share in part.
- **Other settings.** Learning rate and budget are the same for all ways. If you
  tune the distilled student, tune the student alone with as much patience.
- **Many ways.** Of twenty ways that do nothing, one is beyond the spread by
  chance. Choose a way on validation data, then compare that one on the test.

## Conclusion

Distillation paid where the teacher had seen labels that the student had not.
With all labels it did not. You only know after training the student alone, for
as long, from several seeds.

Where next:

- `help(kd.compare)`: a teacher trained for each seed, one's own metric,
  regression, other data;
- `help(kd.ComparisonReport)`: all that is measured, and how;
- *Getting started*: temperature and weights.
"""
