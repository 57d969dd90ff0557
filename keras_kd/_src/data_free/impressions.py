"""Data impressions (ZSKD): samples with targets that relate classes."""

import numpy as np
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.arguments import received
from keras_kd._src.data_free.class_losses import TargetClasses
from keras_kd._src.data_free.input_optimizer import InputOptimizer
from keras_kd._src.data_free.sample_folder import make_batches
from keras_kd._src.data_free.synthesis import check_differentiable
from keras_kd._src.data_free.teacher_layers import find_head


def impressions(
    teacher,
    samples,
    *,
    value_range,
    temperature=20.0,
    concentrations=(1.0, 0.1),
    steps=1500,
    batch_size=100,
    learning_rate=1e-3,
    class_similarity=None,
    seed=0,
    folder=None,
    verbose=1,
):
    """Data impressions (ZSKD): samples that the teacher assigns to its classes.

    The simplest data-free method, for any teacher with a gradient. The result
    is an ordinary data set, on which a `Distiller` trains with any loss, cache
    or rule; augmentation by shifts helps. One half of the samples have targets
    close to a single class, the other half mix similar classes more.

        C = cosines between the classes' weights in the teacher's last layer,
            each row scaled to 0..1
        y ~ Dirichlet(concentration * C[class] + 1e-4)
        x = argmin cross-entropy(y, softmax(teacher(x) / T)), from noise

    In the paper, 24,000 impressions of MNIST gave an accuracy of 98.77 % for a
    LeNet-5 of half the width, with a teacher of 99.34 %. Train the student at
    the same temperature of 20.

    Args:
        teacher: a built Keras model with one input and one output
            `(batch, classes)`.
        samples: integer, how many samples to make. Whole batches are computed.
        value_range: pair of the smallest and largest value of the teacher's
            inputs.
        temperature: T, a positive number.
        concentrations: list of positive numbers, the concentrations of the
            Dirichlet distribution, which samples take in turn. Smaller ones
            give targets closer to a single class.
        steps: integer, Adam steps for each batch.
        batch_size: integer, how many samples are made at once.
        learning_rate: positive number, Adam's, in units of the input values.
        class_similarity: array `(classes, classes)` of numbers from 0 to 1 in
            place of C, for a teacher without a last `Dense` layer.
        seed: non-negative integer.
        folder: path of a folder that keeps each batch as a file, so that an
            interrupted run continues with the first missing one; or None.
        verbose: 1 for a progress bar, 0 for none.

    Returns:
        `(x, y)`, NumPy arrays: samples `(samples, ...)`, and their target class
        probabilities `(samples, classes)`.

    Raises:
        ValueError: the teacher is not a Keras model of this kind, or predicts
            probabilities without a softmax; its last layer was not found;
            `folder` holds other samples; the samples are not finite.

    Example:
    >>> import keras
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, y = impressions(
    ...     teacher, 6, value_range=(0.0, 1.0), steps=3, batch_size=6, verbose=0
    ... )
    >>> x.shape, y.shape
    ((6, 4), (6, 3))

    Reference: Nayak et al., 2019, "Zero-Shot Knowledge Distillation in Deep
    Networks", arXiv 1905.08114.
    """
    check_differentiable(teacher)
    count, size = integer(samples, "samples"), integer(batch_size, "batch_size")
    optimizer = InputOptimizer(
        teacher,
        [TargetClasses(temperature=temperature)],
        batch_size=size,
        value_range=value_range,
        learning_rate=number(learning_rate, "learning_rate", above=0.0),
    )
    if class_similarity is None:
        class_similarity = similarity_of_classes(teacher)
    whole = -(-count // size) * size
    targets = dirichlet_targets(
        _similarity(class_similarity, teacher.output_shape[-1]),
        whole,
        _concentrations(concentrations),
        np.random.default_rng(seed),
    )
    x = make_batches(
        optimizer,
        targets,
        steps=steps,
        seed=seed,
        folder=folder,
        verbose=verbose,
    )
    return x[:count], targets[:count]


def similarity_of_classes(teacher):
    """Cosines between the weights of classes, each row scaled to 0..1."""
    _, head = find_head(teacher)
    kernel = ops.convert_to_numpy(head.kernel).astype("float64")
    rows = kernel.reshape(-1, kernel.shape[-1]).T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    low, high = cosines.min(1, keepdims=True), cosines.max(1, keepdims=True)
    return (cosines - low) / (high - low)


def _concentrations(given):
    """The argument `concentrations` as a list, checked."""
    if not isinstance(given, (list, tuple)) or not given:
        raise ValueError(
            "Argument `concentrations` must be a list of one or more numbers. "
            f"{received('concentrations', given)}"
        )
    return [number(each, "concentrations", above=0.0) for each in given]


def _similarity(given, classes):
    """The argument `class_similarity` as an array, checked."""
    similarity = np.asarray(given, "float64")
    fits = similarity.shape == (classes, classes)
    if not fits or not ((similarity >= 0) & (similarity <= 1)).all():
        raise ValueError(
            "Argument `class_similarity` must hold numbers from 0 to 1, of "
            f"shape ({classes}, {classes}). Received: an array of shape "
            f"{similarity.shape}: {similarity}."
        )
    return similarity


def dirichlet_targets(similarity, samples, concentrations, random):
    """Random class probabilities; classes and concentrations take turns."""
    classes = len(similarity)
    targets = [
        random.dirichlet(
            concentrations[n // classes % len(concentrations)]
            * similarity[n % classes]
            + 1e-4
        )
        for n in range(samples)
    ]
    return np.array(targets, "float32")
