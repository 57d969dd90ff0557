"""DeepInversion: images that match a teacher's moving statistics."""

import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.data_free.batch_norm_matching import BatchNormMatching
from keras_kd._src.data_free.class_losses import TargetClasses
from keras_kd._src.data_free.disagreement import Disagreement
from keras_kd._src.data_free.image_priors import SquaredNorm
from keras_kd._src.data_free.image_priors import TotalVariation
from keras_kd._src.data_free.input_optimizer import InputOptimizer
from keras_kd._src.data_free.input_optimizer import input_shape
from keras_kd._src.data_free.sample_folder import make_batches
from keras_kd._src.data_free.synthesis import check_differentiable
from keras_kd._src.data_free.synthesis import check_losses
from keras_kd._src.losses.kl_divergences import JensenShannon


def invert(
    teacher,
    samples,
    *,
    value_range,
    losses=None,
    student=None,
    steps=2000,
    batch_size=128,
    learning_rate=0.05,
    jitter=2,
    seed=0,
    folder=None,
    verbose=1,
):
    """DeepInversion: images of given classes, optimized by the teacher.

    For teachers with `BatchNormalization`, whose moving statistics tell much
    about the data. It gives the clearest images of these methods, but is the
    slowest, as each batch is optimized from noise. With a `student`, its
    adaptive form (ADI) makes images on which this student, in inference mode,
    still differs from the teacher: train the student, call this again with
    another `folder` and seed, and repeat.

        x = argmin cross-entropy(class, softmax(teacher(x)))
                   + 10 * BatchNormMatching + 0.1 * TotalVariation
                   + 0.01 * SquaredNorm
                   + 0.2 * (-JensenShannon(teacher, student) at T = 3)

    In the paper, on CIFAR-10, a ResNet-18 student reached 95.42 % with a
    ResNet-34 teacher of 95.42 %, with 2,000 steps for each batch.

    Args:
        teacher: a built Keras model with one input and one output
            `(batch, classes)`.
        samples: integer, how many samples to make, the same number of each
            class.
        value_range: pair of the smallest and largest value of the teacher's
            inputs.
        losses: list of synthesis losses; by default the sum above, for inputs
            that are not images without TotalVariation and SquaredNorm.
        student: a Keras model, for the adaptive form; or None.
        steps: integer, Adam steps for each batch.
        batch_size: integer, how many samples are made at once; 64 or more, as
            the statistics are taken over these.
        learning_rate: positive number, Adam's, in units of the input values.
        jitter: integer, the most pixels by which images are shifted at random
            in each step; 0 for none.
        seed: non-negative integer.
        folder: path of a folder that keeps each batch as a file, so that an
            interrupted run continues with the first missing one; or None.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        `(x, labels)`, NumPy arrays: samples `(samples, ...)`, and their target
        classes, integers `(samples,)`.

    Raises:
        ValueError: the teacher has no `BatchNormalization` (for the default
            losses), or is not a model of this kind; no loss uses `student`;
            `folder` holds other samples; the samples are not finite.

    Example:
    >>> import keras
    >>> teacher = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(4, 3),
    ...     keras.layers.BatchNormalization(),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(3),
    ... ])
    >>> x, labels = invert(
    ...     teacher, 6, value_range=(0.0, 1.0), steps=2, batch_size=6, verbose=0
    ... )
    >>> x.shape, labels.tolist()
    ((6, 8, 8, 1), [0, 1, 2, 0, 1, 2])

    Reference: Yin et al., 2020, "Dreaming to Distill: Data-free Knowledge
    Transfer via DeepInversion", arXiv 1912.08795.
    """
    check_differentiable(teacher)
    count, size = integer(samples, "samples"), integer(batch_size, "batch_size")
    images = len(input_shape(teacher)) == 3
    if losses is None:
        losses = _usual_losses(images, student)
    _check_student(losses, student)
    optimizer = InputOptimizer(
        teacher,
        losses,
        student,
        batch_size=size,
        value_range=value_range,
        learning_rate=number(learning_rate, "learning_rate", above=0.0),
        jitter=integer(jitter, "jitter", least=0) if images else 0,
    )
    classes = teacher.output_shape[-1]
    labels = np.arange(-(-count // size) * size) % classes
    x = make_batches(
        optimizer,
        np.eye(classes, dtype="float32")[labels],
        steps=steps,
        seed=seed,
        folder=folder,
        verbose=verbose,
    )
    return x[:count], labels[:count]


def _check_student(losses, student):
    check_losses(losses)
    if student is not None and not any(loss.needs_student for loss in losses):
        raise ValueError(
            "None of the losses uses the student. Received: losses "
            f"{[loss.name for loss in losses]}, student={student.name!r}. Add "
            "a `Disagreement`, or leave the student out."
        )


def _usual_losses(images, student):
    losses = [TargetClasses(), BatchNormMatching(10.0)]
    if images:
        losses += [TotalVariation(0.1), SquaredNorm(0.01)]
    if student is not None:
        # The paper's divergence has no factor T^2.
        apart = JensenShannon(temperature=3.0)
        losses.append(Disagreement(apart, 0.2 / 3.0**2))
    return losses
