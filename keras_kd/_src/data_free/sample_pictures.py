"""Pictures of samples: a sheet by class, and a callback for each epoch."""

import importlib.util
import pathlib

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.backend import no_gradient
from keras_kd._src.backend import unchanged

GAP = 2  # White pixels between two pictures.


def sample_sheet(x, classes, *, columns=10, value_range=None):
    """One picture of many samples, with a row for each class.

    Use it to check the samples of a generator or of an inversion. If all images
    in a row look alike, the generator has collapsed; an empty row is a class of
    which there are no samples.

    Args:
        x: images of shape `(samples, height, width, channels)` with 1 or 3
            channels (channels first if that is Keras' data format), or
            `(samples, height, width)`.
        classes: each sample's class, integers of shape `(samples,)`; or scores
            `(samples, classes)`, such as the teacher's logits, whose largest
            is the class.
        columns: integer, how many samples of a class are shown at most.
        value_range: pair of the values shown as black and white; by default
            the smallest and the largest value of `x`.

    Returns:
        uint8 NumPy array `(rows, columns, channels)` of pixels, channels last,
        with white lines between the images, and white for missing ones.

    Raises:
        ValueError: `x` does not hold images, or `classes` doesn't have one
            entry for each sample.

    Example:
    >>> x = np.random.default_rng(0).uniform(size=(6, 8, 8, 1))
    >>> sheet = sample_sheet(x, [0, 0, 1, 2, 2, 2], columns=2)
    >>> sheet.shape, sheet.dtype
    ((28, 18, 1), dtype('uint8'))
    """
    x = _images(np.asarray(x))
    classes, count = _classes(np.asarray(classes), len(x))
    columns = integer(columns, "columns")
    low, high = (x.min(), x.max()) if value_range is None else value_range
    x = np.clip((x - low) / max(high - low, 1e-12), 0.0, 1.0)
    x = np.rint(255.0 * x).astype("uint8")
    height, width, channels = x.shape[1:]
    shape = count * (height + GAP), columns * (width + GAP), channels
    sheet = np.full(shape, 255, "uint8")
    for row in range(count):
        for column, image in enumerate(x[classes == row][:columns]):
            top, left = row * (height + GAP), column * (width + GAP)
            sheet[top : top + height, left : left + width] = image
    return sheet[:-GAP, :-GAP]


class SamplePictures(keras.callbacks.Callback):
    """Writes a picture of generated samples after each epoch.

    For `DataFreeDistiller.fit` with images. It writes `epoch_0001.png` and so
    on into a folder, each a `sample_sheet` with a row for each class that the
    teacher predicts. The latents are the same in each epoch. It needs Pillow.

    Args:
        folder: path of the folder, which is created if it is missing.
        columns: integer, how many samples of a class are shown.
        samples: integer, how many samples are generated for a picture; by
            default ten times as many as it can show, as some classes are
            generated less often than others.
        value_range: pair of the values shown as black and white; by default
            the smallest and the largest value generated.
        seed: integer, the seed of the latents.

    Raises:
        ValueError: Pillow is missing; in `fit`, the model has no generator,
            or its samples are not images.

    Example:
    >>> import tempfile
    >>> import keras_kd as kd
    >>> folder = tempfile.mkdtemp()
    >>> pictures = SamplePictures(folder, value_range=(0.0, 1.0))
    >>> pictures.columns, pictures.samples
    (10, None)
    """

    def __init__(
        self, folder, *, columns=10, samples=None, value_range=None, seed=0
    ):
        super().__init__()
        if importlib.util.find_spec("PIL") is None:
            raise ValueError(
                "Pictures are written by Pillow, which is not installed. "
                f"Received: folder={str(folder)!r}. Install it with `pip "
                "install pillow`, or look at the arrays of `sample_sheet`."
            )
        self.folder = pathlib.Path(folder)
        self.columns = integer(columns, "columns")
        if samples is not None:
            samples = integer(samples, "samples")
        self.samples, self.value_range, self.seed = samples, value_range, seed

    def on_train_begin(self, logs=None):
        generator = getattr(self.model, "generator", None)
        if generator is None:
            raise ValueError(
                "SamplePictures shows a generator's samples. Received: `fit` "
                f"of {self.model.name!r}, a {type(self.model).__name__}. Use "
                "it with a `data_free.DataFreeDistiller`."
            )
        _images(np.zeros((1, *generator.output_shape[1:])))
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        # On JAX the weights are updated by reading this property.
        model = self.model
        teacher = model.teacher
        samples = self.samples or 10 * self.columns * teacher.output_shape[-1]
        x = model.generate(samples, seed=self.seed)
        with no_gradient(), unchanged(teacher):
            scores = ops.convert_to_numpy(teacher(x, training=False))
        sheet = sample_sheet(
            x, scores, columns=self.columns, value_range=self.value_range
        )
        keras.utils.save_img(
            self.folder / f"epoch_{epoch + 1:04}.png",
            sheet,
            data_format="channels_last",
            scale=False,
        )


def _images(x):
    """Images of channels last; else a `ValueError`."""
    if x.ndim == 3:
        images = x[..., None]
    elif keras.config.image_data_format() == "channels_first":
        images = np.moveaxis(x, 1, -1) if x.ndim == 4 else x
    else:
        images = x
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(
            "A sheet shows images of 1 or 3 channels, of shape (samples, "
            "height, width, channels) or (samples, height, width). Received: "
            f"samples of shape {x.shape}, with Keras' data format "
            f"{keras.config.image_data_format()!r}. Reshape them, or choose "
            "three channels."
        )
    return images.astype("float32")


def _classes(classes, samples):
    """Class numbers, and how many classes there are."""
    if classes.ndim == 2 and len(classes) == samples:
        return classes.argmax(axis=-1), classes.shape[-1]
    whole = np.issubdtype(classes.dtype, np.integer)
    if classes.shape != (samples,) or not whole or classes.min() < 0:
        raise ValueError(
            f"Argument `classes` must be {samples} class numbers from 0 on, "
            "one for each sample, or scores of shape (samples, classes). "
            "Received: "
            f"an array of shape {classes.shape} and type {classes.dtype}."
        )
    return classes, int(classes.max()) + 1
