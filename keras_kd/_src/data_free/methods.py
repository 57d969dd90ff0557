"""Data-free distillation with a generator, in the settings of the papers."""

import math

from keras_kd._src.data_free.class_losses import ClassBalance
from keras_kd._src.data_free.class_losses import ClassCertainty
from keras_kd._src.data_free.class_losses import FeatureActivation
from keras_kd._src.data_free.class_losses import TargetClasses
from keras_kd._src.data_free.data_free_distiller import DataFreeDistiller
from keras_kd._src.data_free.disagreement import Disagreement
from keras_kd._src.data_free.latent_losses import LatentDiversity
from keras_kd._src.data_free.latent_losses import LatentReconstruction
from keras_kd._src.losses.feature_matching import FeatureMatching
from keras_kd._src.losses.soft_targets import SoftTargets


def dafl(teacher, student, generator, **settings):
    """DAFL: generates samples on which the teacher is confident.

    Data-free learning of student networks was the first such method. It is not
    adversarial: the student doesn't influence the samples. A round has one step
    of generator and student. The losses are `ClassCertainty` (weight 1),
    `ClassBalance` (5 with base 10, so 2.17) and `FeatureActivation` (0.1), as
    in the authors' code on MNIST.

    Usual settings: batches of 512; Adam with 2e-3 for the student, and 2e-2 to
    2e-1 for the generator.

    Args:
        teacher: a built Keras model of one output `(batch, classes)`.
        student: a Keras model that takes the same inputs.
        generator: as in `DataFreeDistiller`.
        **settings: arguments of `DataFreeDistiller` that replace the paper's.

    Returns:
        A `DataFreeDistiller`.

    Raises:
        ValueError: as in `DataFreeDistiller`.

    Example:
    >>> import keras
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    >>> distiller = dafl(teacher, student, generator)
    >>> [loss.name for loss in distiller.synthesis_losses]
    ['class_certainty', 'class_balance', 'feature_activation']

    Reference: Chen et al., 2019, "Data-Free Learning of Student Networks",
    arXiv 1904.01186.
    """
    usual = {
        "losses": [
            ClassCertainty(),
            ClassBalance(5.0 / math.log(10.0)),
            FeatureActivation(0.1),
        ],
        "transfers": SoftTargets(temperature=1.0),
        "student_steps": 1,
    }
    return DataFreeDistiller(
        teacher, student, generator, **{**usual, **settings}
    )


def dfad(teacher, student, generator, **settings):
    """DFAD: generates samples on which student and teacher differ most.

    Data-free adversarial distillation is simple, and the strongest of the early
    methods on small images. The generator maximizes the mean absolute
    difference of both models' logits, and the student minimizes it. A round has
    five steps of the student.

    Usual settings: batches of 256 to 512; SGD with 0.01 and momentum 0.9 for
    the student, Adam with 1e-3 for the generator.

    Args:
        teacher: a built Keras model of one output `(batch, classes)`.
        student: a Keras model that takes the same inputs.
        generator: as in `DataFreeDistiller`.
        **settings: arguments of `DataFreeDistiller` that replace the paper's.

    Returns:
        A `DataFreeDistiller`.

    Raises:
        ValueError: as in `DataFreeDistiller`.

    Example:
    >>> import keras
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    >>> dfad(teacher, student, generator).student_steps
    5

    Reference: Fang et al., 2019, "Data-Free Adversarial Distillation",
    arXiv 1912.11006.
    """
    usual = {
        "losses": [Disagreement(FeatureMatching(distance="l1"))],
        "transfers": FeatureMatching(distance="l1"),
        "student_steps": 5,
    }
    return DataFreeDistiller(
        teacher, student, generator, **{**usual, **settings}
    )


def zskt(teacher, student, generator, **settings):
    """ZSKT: like DFAD, with the KL divergence and ten steps of the student.

    The paper on zero-shot knowledge transfer adds attention transfer (weight
    250 on CIFAR-10), which it says gives about 2 % of accuracy there: pass
    `Transfer(AttentionTransfer(), ...)` in `transfers`, together with
    `SoftTargets(temperature=1.0)`.

    Usual settings: batches of 128; Adam with 2e-3 for the student and 1e-3 for
    the generator, both with a cosine decay, and gradients clipped to a norm of
    5.

    Args:
        teacher: a built Keras model of one output `(batch, classes)`.
        student: a Keras model that takes the same inputs.
        generator: as in `DataFreeDistiller`.
        **settings: arguments of `DataFreeDistiller` that replace the paper's.

    Returns:
        A `DataFreeDistiller`.

    Raises:
        ValueError: as in `DataFreeDistiller`.

    Example:
    >>> import keras
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    >>> zskt(teacher, student, generator).student_steps
    10

    Reference: Micaelli and Storkey, 2019, "Zero-shot Knowledge Transfer via
    Adversarial Belief Matching", arXiv 1905.09768.
    """
    divergence = SoftTargets(temperature=1.0)
    usual = {
        "losses": [Disagreement(divergence)],
        "transfers": divergence,
        "student_steps": 10,
    }
    return DataFreeDistiller(
        teacher, student, generator, **{**usual, **settings}
    )


def kegnet(teacher, student, generator, decoder, *, diversity=1.0, **settings):
    """KegNet: generates samples of given classes, with varied latents.

    The generator is conditioned on the class. A decoder must find the latents
    of each sample, and different latents must give different samples. The paper
    first trains five generators, then the student on the samples of all. Here a
    generator and the student are trained together, so no samples are stored. To
    use several generators, average the students of several runs, or train one
    student on samples from several (`generate`).

    Usual settings: batches of 256; Adam with 1e-3 for the generator and 1e-4
    for the student.

    Args:
        teacher: a built Keras model of one output `(batch, classes)`.
        student: a Keras model that takes the same inputs.
        generator: a generator with two inputs, latents and one-hot classes,
            such as `image_generator(..., classes=10)`.
        decoder: a built Keras model from samples to latents.
        diversity: weight of `LatentDiversity`; 1 on MNIST, 10 on
            Fashion-MNIST.
        **settings: arguments of `DataFreeDistiller` that replace the paper's.

    Returns:
        A `DataFreeDistiller`.

    Raises:
        ValueError: as in `DataFreeDistiller`.

    Example:
    >>> import keras
    >>> from keras import layers
    >>> teacher = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    >>> inputs = [keras.Input((2,)), keras.Input((3,))]
    >>> x = layers.Dense(4)(layers.Concatenate()(inputs))
    >>> generator = keras.Model(inputs, x)
    >>> decoder = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    >>> distiller = kegnet(teacher, student, generator, decoder)
    >>> [loss.name for loss in distiller.synthesis_losses]
    ['target_classes', 'latent_reconstruction', 'latent_diversity']

    Reference: Yoo et al., 2019, "Knowledge Extraction with No Observable
    Data", NeurIPS 2019.
    """
    usual = {
        "losses": [
            TargetClasses(),
            LatentReconstruction(decoder),
            LatentDiversity(diversity),
        ],
        "transfers": SoftTargets(temperature=1.0),
        "student_steps": 1,
    }
    return DataFreeDistiller(
        teacher, student, generator, **{**usual, **settings}
    )
