"""The manifest: what a cache holds, of which teacher, in which parts."""

import json
import zlib

import numpy as np

from keras_kd._src.cache.data.descriptions import names_of
from keras_kd._src.cache.data.descriptions import plain
from keras_kd._src.cache.data.descriptions import text_of
from keras_kd._src.cache.records import StoredOutput
from keras_kd._src.cache.records import record_type
from keras_kd._src.cache.sealed import sealed
from keras_kd._src.cache.sealed import unsealed
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.fingerprint import hexadecimal

FORMAT = 1


def describe(
    teacher, outputs, *, views, class_names, preprocessing, dataset_id
):
    """What all parts of a cache must have in common, as a JSON-able dict.

    Example:
    >>> import keras
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> about = dict(class_names=["a", "b", "c"], preprocessing=None)
    >>> settings = describe(teacher, [], views=None, dataset_id="x", **about)
    >>> sorted(settings)[:3]
    ['class_names', 'dataset_id', 'outputs']
    """
    class_names = names_of(class_names)
    _check_number_of(class_names, outputs)
    settings = {
        "teacher": hexadecimal(fingerprint(teacher)),
        "outputs": [output.get_config() for output in outputs],
        "views": views,
        "class_names": class_names,
        "preprocessing": plain(preprocessing),
        "dataset_id": text_of(dataset_id),
    }
    return json.loads(json.dumps(settings))


def _check_number_of(class_names, outputs):
    """Refuses more or fewer names than the teacher's output has classes."""
    # Of several entries, or several axes, it isn't known which are classes.
    shapes = [out.shape for out in outputs if out.tap == ""]
    # A single number tells two classes apart.
    counts = [n for shape in shapes if len(shape) == 1 for n in shape if n > 1]
    if class_names and counts and len(class_names) not in counts:
        raise ValueError(
            "Argument `class_names` must name each class of the teacher's "
            f"output. Received: {len(class_names)} names, "
            f"{_short(class_names)}, for an output of {counts[0]} classes. "
            "Give a name for each."
        )


class Manifest:
    """What a cache's `manifest.json` says.

    Args:
        content: a dict of the settings that all parts share, `samples`,
            `parts` (each with name, samples, constants, header, shards) and
            `index`.

    Raises:
        ValueError: it is of another format, or was changed.

    Example:
    >>> content = {"samples": 2, "outputs": [], "parts": [], "views": None}
    >>> Manifest.parse(Manifest(content).text().encode(), "answers").samples
    2
    """

    def __init__(self, content):
        self.content = content
        self.samples = content["samples"]
        self.parts = content["parts"]
        self.views = content["views"]
        self.outputs = [
            StoredOutput.from_config(config) for config in content["outputs"]
        ]
        self.dtype = record_type(self.outputs)

    @property
    def index_file(self):
        """The name of the index's file; caches of before don't say it."""
        return self.content["index"].get("name", "index.npy")

    @property
    def tag(self):
        """Short for the teacher, and for how its answers are stored."""
        outputs = zlib.crc32(json.dumps(self.content["outputs"]).encode())
        return f"teacher {self.content['teacher'][:12]}, outputs {outputs:08x}"

    def text(self):
        """The file's text, with a checksum of all that it says."""
        return sealed({"format": FORMAT, **self.content})

    @classmethod
    def parse(cls, data, name):
        """The manifest that bytes hold; `name` is the cache's, for errors."""
        content = unsealed(
            data,
            f"The manifest of the cache {name!r} is damaged: its checksum does "
            "not fit what it says. Copy manifest.json again, or make it anew "
            "with `keras_kd.cache.merge`.",
        )
        received = content.pop("format", None)
        if received != FORMAT:
            raise ValueError(
                f"The cache {name!r} is of a format that this version of "
                f"keras_kd does not read. Received: format {received}, "
                f"expected {FORMAT}. Install the version that wrote it, or "
                "write the cache anew."
            )
        return cls(content)

    def check(self, name, **expected):
        """Raises a `ValueError` unless the cache was made with this.

        Args:
            name: the cache's, for errors.
            expected: `class_names`, `preprocessing`, `dataset_id`; None for
                any.
        """
        kinds = {"class_names": names_of, "dataset_id": text_of}
        for key, value in expected.items():
            value = kinds.get(key, plain)(value)
            if value is not None and value != self.content[key]:
                raise ValueError(
                    f"The cache {name!r} was written with another {key}. "
                    f"Received: {key}={value!r}; in the cache: "
                    f"{self.content[key]!r}. Open the cache that belongs to "
                    "this data, or write one."
                )

    def check_teacher(self, name, teacher):
        """Raises a `ValueError` unless the answers are this teacher's."""
        received = hexadecimal(fingerprint(teacher))
        stored = self.content["teacher"]
        if received != stored:
            raise ValueError(
                f"The cache {name!r} holds another teacher's answers, or this "
                "one's before it was changed. Received a teacher "
                f"{teacher.name!r} with fingerprint {received[:12]}; the "
                f"cache's has {stored[:12]}. Load the weights that the cache "
                "was written with, or write the cache anew in another folder."
            )

    @property
    def fingerprint(self):
        """The teacher's, as `keras_kd.fingerprint` gives it."""
        text = self.content["teacher"]
        return np.frombuffer(bytes.fromhex(text), "uint8")


def check_same(path, before, now):
    """Raises a `ValueError` unless two writers' settings are the same."""
    for key in before.keys() | now.keys():
        if before.get(key) != now.get(key):
            raise ValueError(
                f"The folder {str(path)!r} holds answers of another kind: "
                f"{key} differs. Received: {_short(now.get(key))}; in the "
                f"folder: {_short(before.get(key))}. Write to another folder, "
                "or delete this one first."
            )


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
