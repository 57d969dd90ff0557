"""
Title: From a distilled student to a phone
Author: keras_kd developers
Date created: 2026/11/30
Last modified: 2026/11/30
Description: Export a student, check its file, and quantize it while it learns.
Accelerator: None
Needs: pip install ".[tensorflow,litert,quickstart]"
"""

"""
## Introduction

A student is distilled to be deployed. Its weights are in Keras then, and a
phone runs a file: LiteRT (`.tflite`) on Android and in microcontrollers, ONNX
nearly everywhere. On the way two things can go wrong:

- The file computes something else than the student. Exporters differ from one
  backend to another, and none compares.
- The file is to be small, so its numbers are rounded to 8 bits or to 4
  (**quantization**), and accuracy is lost.

In this guide you will

- write a student to a file that is run and compared before it stays;
- quantize it after training, and see what that costs with 8, 4 and 3 bits;
- let it learn with rounded numbers (**quantization-aware training**, QAT),
  on the labels or on the teacher's predictions (**quantization-aware
  distillation**, QAD);
- see which of these pays, over three seeds.

You should know [Getting started](getting_started.ipynb). LiteRT files are
written by TensorFlow; on JAX and PyTorch the student goes there by itself, so
TensorFlow must be installed, too. The short version of this page is [Export and
8 bits](../how_to/export_and_int8.md).
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_kd as kd
from keras_kd.quantization import QuantizationAwareModel

# A trial run, under the environment variable KERAS_MAX_EPOCHS=1, takes one seed
# and few of the bits.
TRIAL = keras.config.max_epochs() == 1
SEEDS = range(1 if TRIAL else 3)
BITS = [4] if TRIAL else [8, 4, 3]

"""
## A teacher, and a student for a phone

Handwritten digits of 8 x 8 pixels: 1,000 to train with and 797 to test. The
student is made of depthwise separable convolutions, as MobileNet is. They are
cheap, and they are also what quantization hurts most: each channel has only
nine weights, and a few large ones leave the others few steps.
"""

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., None]
train_images, test_images, train_labels, test_labels = train_test_split(
    images, digits.target, test_size=797, stratify=digits.target, random_state=0
)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def normalized(layer):
    return [layer, layers.BatchNormalization(), layers.ReLU(6.0)]


def make_teacher():
    stack = [keras.Input((8, 8, 1))]
    for width in (32, 64):
        conv = layers.Conv2D(width, 3, padding="same", use_bias=False)
        stack += normalized(conv)
    stack += [layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.5)]
    stack += [layers.Dense(64, activation="relu"), layers.Dense(10)]
    return keras.Sequential(stack, name="teacher")


def make_student():
    stack = [keras.Input((8, 8, 1))]
    stack += normalized(layers.Conv2D(16, 3, padding="same", use_bias=False))
    for width, strides in ((32, 2), (32, 1), (64, 1)):
        depthwise = layers.DepthwiseConv2D(
            3, strides, padding="same", use_bias=False
        )
        stack += normalized(depthwise)
        stack += normalized(layers.Conv2D(width, 1, use_bias=False))
    stack += [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return keras.Sequential(stack, name="student")


def compile_model(model, rate, epochs):
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * 32)
    model.compile(keras.optimizers.Adam(schedule), LOSS)


def train(model, rate, epochs):
    compile_model(model, rate, epochs)
    model.fit(train_images, train_labels, epochs=epochs, verbose=0)


def distil(teacher, student, rate, epochs):
    soft_targets = kd.losses.SoftTargets(temperature=4.0)
    distiller = kd.Distiller(
        teacher, student, kd.Transfer(soft_targets), hard_weight=1.0
    )
    train(distiller, rate, epochs)


def accuracy(model):
    classes = model.predict(test_images, verbose=0).argmax(axis=-1)
    return 100 * np.mean(classes == test_labels)


keras.utils.set_random_seed(0)
teacher = make_teacher()
train(teacher, 1e-3, epochs=20)
student = make_student()
distil(teacher, student, 1e-2, epochs=40)
for model in (teacher, student):
    size = f"{model.count_params():,} parameters"
    print(f"{model.name}: {size}, {accuracy(model):.1f} % right")

"""
## To a file, and through it

`kd.export` writes the file, runs the samples through it with the runtime that a
phone has, and compares what comes out with the student. A file that differs
raises an error and is not left behind. The report says how close it is, how
large, how fast on this machine, and which operations it has.
"""

samples = train_images[:200]
report = kd.export(student, "student.tflite", format="litert", samples=samples)
print(report)

"""
## Eight bits after training

With `quantize="int8"`, weights and values are integers of 8 bits. Each weight
has a scale for each of its channels; the range of each tensor between the
layers is what the samples show. So they should be typical: a few hundred images
as they come, prepared as for training.
"""

report = kd.export(
    student,
    "student_int8.tflite",
    format="litert",
    samples=samples,
    quantize="int8",
)
print(report)

"""
The file is smaller, and it agrees with the student nearly always. With 8 bits
this is what to expect; often the work is done here.

## Fewer bits

A `QuantizationAwareModel` is a copy of the student that rounds as its file
will, and stays in Keras: weights, inputs, and what layers hand to each other.
Its gradients pass as if it did not round. Batch normalization is folded into
the layers before it, as exporters do. The samples give it the ranges to begin
with.

Before it is trained, it shows what rounding costs.
"""

for bits in BITS:
    rounded = QuantizationAwareModel(student, samples, weight_bits=bits)
    print(f"{bits}-bit weights: {accuracy(rounded):.1f} %")

"""
## Trained with rounded numbers

Now it is trained on: by the labels alone, or as the student was distilled, with
the same teacher. A tenth of the learning rate is enough, and few epochs. The
ranges are trained, too (`ranges="learned"`, the default).
"""


def tuned(student, bits):
    """The student with rounded weights: as it is, by QAT, and by QAD."""
    made = {
        way: QuantizationAwareModel(student, samples, weight_bits=bits)
        for way in ("after training", "QAT", "QAD")
    }
    train(made["QAT"], 1e-3, epochs=10)
    distil(teacher, made["QAD"], 1e-3, epochs=10)
    return made


tuned_student = tuned(student, bits=4)
for way, model in tuned_student.items():
    print(f"4-bit weights, {way}: {accuracy(model):.1f} %")

"""
## The trained ranges go into the file

The file of a quantization-aware model is exported with `quantize="int8"`. It
gets the ranges that were trained, and no others. The largest difference in the
report is a few steps of the last tensor: the file computes what was trained.

Weights of 4 bits are stored in 8: neither runtime has convolutions of 4-bit
weights. What is gained is a file that compresses well, and a student that is
ready for chips that do have them.
"""

quantized = tuned_student["QAD"]
report = kd.export(
    quantized,
    "student_4bit.tflite",
    format="litert",
    samples=samples,
    quantize="int8",
)
low, high = list(quantized.ranges.values())[-1]
steps = report.largest_difference / ((high - low) / 255)
print(f"largest difference: {steps:.1f} steps, {report.size / 1000:.0f} kB")

"""
`quantized.float_model()` is a plain Keras model with the weights as they are
rounded, and `quantized.ranges` are the ranges, for exporters of your own.
`quantized.save("quantized.keras")` keeps all of it.

## Three seeds

One student shows little. Here are three, each with 8, 4 and 3 bits.
"""

results = {}
for seed in SEEDS:
    keras.utils.set_random_seed(seed)
    student = make_student()
    distil(teacher, student, 1e-2, epochs=40)
    results.setdefault(("float", ""), []).append(accuracy(student))
    for bits in BITS:
        for way, model in tuned(student, bits).items():
            key = f"{bits} bits", way
            results.setdefault(key, []).append(accuracy(model))

for (bits, way), values in results.items():
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    each = " ".join(f"{value:.1f}" for value in values)
    name = f"{bits} {way}".strip()
    print(f"{name:24}{np.mean(values):6.1f} ± {spread:.1f}   {each}")

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for way in ("after training", "QAT", "QAD"):
    means = [np.mean(results[f"{bits} bits", way]) for bits in BITS]
    axes.plot([str(bits) for bits in BITS], means, "o-", label=way)
axes.axhline(np.mean(results["float", ""]), color="0.5", ls=":", label="float")
axes.set_xlabel("bits of the weights")
axes.set_ylabel("test accuracy, %")
axes.legend(frameon=False)
plt.savefig("to_the_phone.png", dpi=120)
plt.show()

"""
*Figure: Test accuracy by the bits of the weights.*

**With 8 bits, training is not needed.** Rounding after training changes nothing
here. So try this first.

**With 3 bits, it is.** Rounding costs four points, and ten epochs bring back
all but 0.6.

**Labels or teacher makes no difference here.** We have all labels, and the
student has learned what the teacher can show. The teacher pays where labels are
few or none: QAD needs inputs only, and the float student can be the teacher.

With 797 images, a difference of half a point is four of them.

## What to know

**Samples are part of the model.** Ranges come from them. With images of another
brightness, or prepared otherwise than for training, the file clips what it
should not. `export` compares on these samples only, so test the file with
others.

**Weight decay shrinks ranges, too.** With AdamW, call
`optimizer.exclude_from_weight_decay(var_names=["minimum", "maximum", "limit"])`
before training.

**What stays in float is in the report.** Some operations have no version with 8
bits. They work, and the values are converted before and after, which takes
time. `integer_only=True` refuses them, for microcontrollers.

**Latency is of this machine.** A phone has another processor. Compare files
with each other here, and measure on the phone. This student is so small that 8
bits make it no faster.

**A subclassed student** is rounded in its layers. What its own code adds or
multiplies gets its range from the samples, when it is exported.

## Conclusion

Export first, and read the report. If 8 bits after training are good enough, you
are done. If not, or if you need fewer bits, distil the rounded student for a
few epochs, and export that.

Where next:

- [the example](../examples/phone_classifier.md) on MNIST: files for LiteRT and
  ONNX, three seeds;
- `kd.export`: other formats, tolerances, threads;
- [Is it worth it?](is_it_worth_it.ipynb): whether the student needed a teacher
  at all.
"""
