"""The files of a cache: their names, content and checksums.

    manifest.json                  what all parts hold; written by `merge`
    index-CHECKSUM.npy             each sample's row; written by `merge`
    parts/NAME/part.json           what a writer has stored; by `write`
    parts/NAME/00000-CHECKSUM.npy  a shard: one record for each sample

An `.npy` file is written at once and never changed: new content gets a new
name. The JSON files hold a checksum of their own content, and the size and
checksum of each `.npy` file. Rows are counted over all shards of all parts, in
the order of the manifest.
"""

import io
import json
import mmap
import sys
import zlib

import keras
import numpy as np

from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.cache.contents import check_against
from keras_kd._src.cache.contents import checked_manifest
from keras_kd._src.cache.contents import checked_part
from keras_kd._src.cache.records import StoredOutput
from keras_kd._src.cache.records import record_type
from keras_kd._src.checked_json import check_size
from keras_kd._src.checked_json import parse_json
from keras_kd._src.checked_json import short
from keras_kd._src.fingerprint import fingerprint
from keras_kd._src.fingerprint import hexadecimal
from keras_kd._src.own_folder import inside

FORMAT = 1
# Else each map holds a file descriptor, and a process may open only so many.
NO_DESCRIPTOR = {"trackfd": False} if sys.version_info >= (3, 13) else {}


# --- JSON with a checksum ----------------------------------------------------


def checksummed_json(content):
    """A dict as one line of JSON, with a checksum of its content."""
    text = json.dumps({"checksum": _checksum(content), **content}) + "\n"
    # A file that would be too large to read is not written.
    check_size(
        len(text),
        "There are more shards than a cache can list. Give `cache.write` a "
        "larger `shard_samples`.",
    )
    return text


def parse_checksummed(data, damaged):
    """The content of JSON bytes; errors begin with the text `damaged`."""
    content = parse_json(data, damaged)
    if not isinstance(content, dict) or "checksum" not in content:
        raise ValueError(f"{damaged} (Received: no valid JSON.)")
    checksum = content.pop("checksum")
    try:
        intact = checksum == _checksum(content)
    except RecursionError as error:  # Python can read deeper than it writes.
        raise ValueError(f"{damaged} (Received: no valid JSON.)") from error
    if not intact:
        raise ValueError(f"{damaged} (Received: another checksum.)")
    return content


def _checksum(content):
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


# --- arrays ------------------------------------------------------------------


def write_array(folder, stem, arrays):
    """Writes arrays as one `.npy` file, along the last axis.

    Returns its entry in the JSON: `file`, `bytes` and `checksum`.
    """
    dtype, shape = arrays[0].dtype, arrays[0].shape
    last = sum(array.shape[-1] for array in arrays)
    content = [_header(dtype, (*shape[:-1], last))]
    content += [np.ascontiguousarray(a).view("u1").data for a in arrays]
    checksum = 0
    for data in content:
        checksum = zlib.crc32(data, checksum)
    name = f"{stem}-{checksum:08x}.npy"

    def write(path):
        with path.open("wb") as file:
            file.writelines(content)

    atomic_write(folder / name, write)
    size = sum(data.nbytes for data in content)
    return {"file": name, "bytes": size, "checksum": checksum}


def _header(dtype, shape):
    """The header of an `.npy` file."""
    header = io.BytesIO()
    about = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_2_0(header, about)
    return header.getbuffer()


def has_header(mapped, dtype, shape):
    """Whether a mapped file has the header of such an array."""
    header = _header(dtype, shape)
    return mapped[: len(header)] == header


def map_file(path, about, damaged):
    """A file, mapped into memory, if it has the size given in the JSON."""
    if not path.is_file():
        raise ValueError(f"{damaged} Received: no file {path.name}.")
    size = path.stat().st_size
    if size != about["bytes"] or not size:
        raise ValueError(
            f"{damaged} Received: {path.name} of {size} bytes, expected "
            f"{about['bytes']}."
        )
    with path.open("rb") as file:
        return mmap.mmap(
            file.fileno(), size, access=mmap.ACCESS_READ, **NO_DESCRIPTOR
        )


def check_file(mapped, about, damaged):
    """Raises a `ValueError` unless a mapped file has its checksum."""
    if zlib.crc32(mapped) != about["checksum"]:
        raise ValueError(
            f"{damaged} Received: {about['file']} with another checksum than "
            "it was written with."
        )


def rows_of_file(mapped, count, dtype):
    """The `count` values of a mapped file, after its header.

    The header is for other readers: here the JSON describes what a file holds,
    and nothing is unpickled.
    """
    return np.frombuffer(
        mapped, dtype, count, len(mapped) - count * dtype.itemsize
    )


# --- settings: what all parts of a cache have in common ----------------------


def settings_of(teacher, outputs, views, metadata):
    """The settings that all writers of a cache share, as read from JSON."""
    metadata = plain_metadata(metadata)
    _check_class_names(metadata.get("class_names"), outputs)
    settings = {
        "teacher": hexadecimal(teacher.fingerprint()),
        "outputs": [output.get_config() for output in outputs],
        "views": views,
        "metadata": metadata,
    }
    return json.loads(json.dumps(settings))


def check_same(path, before, now):
    """Raises a `ValueError` unless two writers' settings are the same."""
    before, now = _flat(before), _flat(now)
    for key in before.keys() | now.keys():
        if before.get(key) != now.get(key):
            raise ValueError(
                f"The folder {str(path)!r} holds other predictions: {key} "
                f"differs. Received: {short(now.get(key))}; in the folder: "
                f"{short(before.get(key))}. Write to another folder, or "
                "delete this one first."
            )


def _flat(settings):
    settings = dict(settings)
    metadata = settings.pop("metadata")
    return settings | {f"metadata[{k!r}]": v for k, v in metadata.items()}


def plain_metadata(metadata):
    """The metadata as read from JSON; None becomes an empty dict."""
    if metadata is None:
        return {}
    texts = isinstance(metadata, dict) and all(
        isinstance(key, str) for key in metadata
    )
    if not texts:
        raise ValueError(
            "Argument `metadata` must be a dict with text as keys, such as "
            '{"class_names": ["cat", "dog"], "preprocessing": "x / 255"}. '
            f"Received: metadata={metadata!r} of type "
            f"{type(metadata).__name__}."
        )
    return {
        key: _names(value) if key == "class_names" else _plain(key, value)
        for key, value in metadata.items()
        if value is not None
    }


def _names(class_names):
    unordered = isinstance(class_names, (str, bytes, dict, set))
    in_order = hasattr(class_names, "__iter__") and not unordered
    try:
        names = list(class_names) if in_order else []
        # NumPy's numbers become Python's.
        names = json.loads(json.dumps(names, default=lambda name: name.item()))
    except (AttributeError, TypeError, ValueError):
        names = []
    if not names:
        raise ValueError(
            "`metadata['class_names']` must be a list of the names of the "
            "teacher's classes, text or anything else that JSON can hold. "
            f"Received: class_names={class_names!r} of type "
            f"{type(class_names).__name__}. Give, for example, "
            '["cat", "dog"].'
        )
    return names


def _plain(key, value):
    if isinstance(value, keras.layers.Layer):
        config = keras.saving.serialize_keras_object(value)
        config = _nameless(json.loads(json.dumps(config)))
        if value.weights:  # Such as the mean of an adapted `Normalization`.
            config["weights"] = hexadecimal(fingerprint(value))
        return config
    try:
        # NaN is refused, as it doesn't equal itself.
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"`metadata[{key!r}]` must be something that JSON can hold, or a "
            f"Keras layer. Received: {key}={value!r} of type "
            f"{type(value).__name__}. Name it by text: for example "
            '"resnet50.preprocess_input, 224 pixels", or str(path).'
        ) from error


def _nameless(config):
    """A config without what differs from one process to the next."""
    if isinstance(config, list):
        return [_nameless(value) for value in config]
    if not isinstance(config, dict):
        return config
    left_out = {"name", "build_config"}
    return {k: _nameless(v) for k, v in config.items() if k not in left_out}


def _check_class_names(class_names, outputs):
    # With several entries or axes, it isn't known which are the classes.
    shapes = [output.shape for output in outputs if output.tap == ""]
    # A single number distinguishes two classes.
    counts = [n for shape in shapes if len(shape) == 1 for n in shape if n > 1]
    if class_names and counts and len(class_names) not in counts:
        raise ValueError(
            "`metadata['class_names']` must name each class of the teacher's "
            f"output. Received: {len(class_names)} names, "
            f"{short(class_names)}, for an output of {counts[0]} classes. "
            "Give a name for each."
        )


# --- parts -------------------------------------------------------------------


def part_folders(path):
    """The folders of a cache's parts, in the order of their names."""
    return [
        folder
        for folder in sorted(path.glob("parts/*"))
        # A file such as `.DS_Store` is no part. A broken link is a part that
        # was lost: it is kept, so that it is noticed.
        if not folder.is_file() and not folder.name.startswith(".")
    ]


def read_part(folder):
    """The content of a part's `part.json`."""
    path, message = own_file(folder, "part.json"), damaged(folder.name)
    if not path.is_file():
        raise ValueError(f"{message} Received: no file part.json.")
    check_size(path.stat().st_size, message)
    content = parse_checksummed(path.read_bytes(), message)
    checked_part(content, message)
    outputs = outputs_of(content["settings"]["outputs"], message)
    check_against(outputs, record_type(outputs), [content], message)
    return content


def own_file(folder, name):
    """The path of a part's file, which must be inside the cache."""
    path = folder.parents[1]
    return inside(path, (folder / name).relative_to(path))


def outputs_of(configs, damaged):
    """A list of `StoredOutput` from their JSON; else a `ValueError`."""
    try:
        outputs = [StoredOutput.from_config(config) for config in configs]
        record_type(outputs)
    except ValueError as error:
        raise ValueError(f"{damaged} Received: outputs: {error}") from error
    return outputs


def damaged(part):
    """The beginning of each error about a damaged part."""
    return (
        f"The part {part!r} is damaged. Copy its folder parts/{part} again, or "
        "delete it and run its writer again, then `keras_kd.cache.merge`."
    )


def check_shard(folder, shard, dtype):
    """The records of a part's shard, mapped; an error if it was changed."""
    message = damaged(folder.name)
    mapped = map_file(own_file(folder, shard["file"]), shard, message)
    check_file(mapped, shard, message)
    return rows_of_file(mapped, shard["samples"], dtype)


# --- the manifest ------------------------------------------------------------


class Manifest:
    """A cache's `manifest.json`: settings, samples, parts, index."""

    def __init__(self, content, damaged=""):
        checked_manifest(content, damaged)
        self.content = content
        self.samples = content["samples"]
        self.parts = content["parts"]
        self.views = content["views"]
        self.metadata = content["metadata"]
        self.outputs = outputs_of(content["outputs"], damaged)
        self.dtype = record_type(self.outputs)
        check_against(self.outputs, self.dtype, self.parts, damaged)

    @property
    def tag(self):
        """A short name for the teacher and how its predictions are stored."""
        outputs = zlib.crc32(json.dumps(self.content["outputs"]).encode())
        return f"teacher {self.content['teacher'][:12]}, outputs {outputs:08x}"

    @property
    def fingerprint(self):
        """The teacher's, as `keras_kd._src.fingerprint` gives it."""
        text = self.content["teacher"]
        return np.frombuffer(bytes.fromhex(text), "uint8")

    def text(self):
        """The file's text."""
        return checksummed_json({"format": FORMAT, **self.content})

    @classmethod
    def read(cls, path, name):
        """The manifest in a file; `name` is the cache's, for errors."""
        damaged = (
            f"The manifest of the cache {name!r} is damaged, or is none. Copy "
            "manifest.json again, or rewrite it with `keras_kd.cache.merge`."
        )
        check_size(path.stat().st_size, damaged)
        content = parse_checksummed(path.read_bytes(), damaged)
        received = content.pop("format", None)
        if received != FORMAT:
            raise ValueError(
                f"The cache {name!r} is of a format that this version of "
                f"keras_kd does not read. Received: format {short(received)}, "
                f"expected {FORMAT}. Install the version that wrote it, or "
                "write the cache anew."
            )
        return cls(content, damaged)

    def check_metadata(self, name, metadata):
        """Raises a `ValueError` if the cache was written with another value."""
        for key, value in plain_metadata(metadata).items():
            if value != self.metadata.get(key):
                raise ValueError(
                    f"The cache {name!r} was written with another {key}. "
                    f"Received: {key}={value!r}; in the cache: "
                    f"{short(self.metadata.get(key))}. Open the cache that "
                    "belongs to this data, or write one."
                )

    def check_teacher(self, name, teacher):
        """Raises a `ValueError` unless the predictions are this teacher's."""
        received = hexadecimal(teacher.fingerprint())
        stored = self.content["teacher"]
        if received != stored:
            raise ValueError(
                f"The cache {name!r} holds another teacher's predictions, or "
                "this one's before it was changed. Received: a teacher "
                f"{teacher.name!r} with fingerprint {received[:12]}; the "
                f"cache's has {stored[:12]}. Load the weights that the cache "
                "was written with, or write the cache anew in another folder."
            )
