"""Impressions (ZSKD): samples of the classes as the teacher relates them."""

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
    """Data impressions (ZSKD): what the teacher remembers of its classes.

    The simplest way without data, for any teacher that has a gradient: what
    comes back is an ordinary data set, on which a `Distiller` trains with any
    loss, cache or rule, and augmentation (shifts) helps. Half of the samples
    have targets near their class, half ones that are more mixed.

        C = cosines between the classes' weights in the teacher's last layer,
            each row scaled to 0..1
        y ~ Dirichlet(concentration * C[class] + 1e-4)
        x = argmin cross-entropy(y, softmax(teacher(x) / T)), from noise

    In the paper, 24,000 impressions of MNIST: 98.77 % for a LeNet-5 of half
    the width whose teacher has 99.34; train at the same temperature of 20.

    Args:
        teacher: a built Keras model of one input and one output
            `(batch, classes)`.
        samples: how many to make; rounded up to whole batches for the work.
        value_range: the least and the largest value of the teacher's inputs.
        temperature: T, a positive number.
        concentrations: of the Dirichlet distribution; samples have them in
            turn. Smaller ones give targets nearer to a single class.
        steps: Adam steps for each batch.
        batch_size: how many are made at once.
        learning_rate: of Adam, in units of the values.
        class_similarity: array `(classes, classes)` of numbers 0 to 1 in the
            place of C, for a teacher without a last `Dense` layer.
        seed: a non-negative integer.
        folder: where each batch is kept as a file; a run that was interrupted
            goes on with the first one that is missing.
        verbose: 1 for a bar of progress, 0 for none.

    Returns:
        `(x, y)`, NumPy arrays: samples, and the class probabilities that were
        aimed at, of shape `(samples, classes)`.

    Raises:
        ValueError: the teacher is no Keras model of this kind, gives
            probabilities without a softmax, its last layer was not found,
            `folder` holds other samples, or the samples are not finite.

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
            "Argument `class_similarity` must hold numbers 0 to 1, of shape "
            f"({classes}, {classes}). Received: an array of shape "
            f"{similarity.shape}: {similarity}."
        )
    return similarity


def dirichlet_targets(similarity, samples, concentrations, random):
    """Class probabilities: classes in turn, and concentrations in turn."""
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
