"""What the JSON files of a cache hold, and which values each entry may have."""

from keras_kd._src.cache.data.keys import MOST_KEYS
from keras_kd._src.checked_json import all_of
from keras_kd._src.checked_json import anything
from keras_kd._src.checked_json import boolean
from keras_kd._src.checked_json import by_name
from keras_kd._src.checked_json import checked
from keras_kd._src.checked_json import choice
from keras_kd._src.checked_json import fields
from keras_kd._src.checked_json import nothing_or
from keras_kd._src.checked_json import positive
from keras_kd._src.checked_json import real
from keras_kd._src.checked_json import refuse
from keras_kd._src.checked_json import text
from keras_kd._src.checked_json import whole

CHECKSUM = whole(most=2**32 - 1)
MOST_BYTES = 2**50  # The largest file.
FINGERPRINT = text(r"([0-9a-f]{2}){1,64}", "hexadecimal digits")
# The name of one folder, neither hidden nor a path to another folder.
PART_NAME = text(
    r"[^./\\:\x00-\x1f\x7f][^/\\:\x00-\x1f\x7f]{0,200}",
    "the name of a folder in parts",
)


def _shape(value, place):
    all_of(whole(least=1, most=2**31 - 1))(value, place)
    numbers = 1
    for size in value:
        numbers *= size
    if len(value) > 30 or numbers > 2**29:
        refuse(place, value, "the shape of one sample's output")


def _output(value, place):
    # Each kind of encoding has settings of its own.
    known = {
        "dense": {"dtype": text()},
        "int8": {"scale": nothing_or(all_of(real))},
        "top_k": {"k": whole(least=1, most=2**31 - 1), "temperature": real},
    }
    kind = value.get("kind") if isinstance(value, dict) else None
    choice(*known)(kind, f"{place}.kind")
    own = known[kind]
    fields(tap=text(), shape=_shape, kind=text(), **own)(value, place)


def _input_checksums(value, place):
    # All are checked at once, as there are many.
    pairs = isinstance(value, list) and all(
        type(each) is list
        and len(each) == 2
        and type(each[0]) is type(each[1]) is int
        and 0 <= each[0] < MOST_KEYS
        and 0 <= each[1] < 2**32
        for each in value
    )
    if not pairs:
        refuse(place, value, "pairs of a key and a checksum")


def _file(stem, **own):
    def must_be(value, place):
        name = text(rf"{stem}-[0-9a-f]{{8}}\.npy", f"{stem}-CHECKSUM.npy")
        size = whole(least=1, most=MOST_BYTES)
        fields(file=name, bytes=size, checksum=CHECKSUM, **own)(value, place)
        if f"{value['checksum']:08x}" != value["file"][-12:-4]:
            refuse(f"{place}.checksum", value["checksum"], "that of its name")

    return must_be


SHARD = _file(
    r"[0-9]{5,12}",
    samples=whole(least=1, most=MOST_KEYS),
    input_checksums=_input_checksums,
)
SETTINGS = {
    "teacher": FINGERPRINT,
    "outputs": all_of(_output, least=1),
    "views": nothing_or(
        fields(
            samples=whole(least=1, most=MOST_KEYS),
            count=whole(least=1, most=MOST_KEYS),
            seed=whole(most=2**64 - 1),
            draws=nothing_or(whole(least=1)),
            augment=text(),
        )
    ),
    "metadata": by_name(anything),
}
WRITTEN = {
    "constants": by_name(by_name(all_of(positive))),
    "written_with": by_name(text()),
    "shards": all_of(SHARD),
}
PART = fields(settings=fields(**SETTINGS), finished=boolean, **WRITTEN)
MANIFEST = fields(
    samples=whole(most=MOST_KEYS),
    parts=all_of(fields(name=PART_NAME, **WRITTEN), least=1),
    index=_file("index", runs=whole(least=1, most=2 * MOST_KEYS)),
    **SETTINGS,
)


def checked_part(content, damaged):
    """The content of a `part.json`, or a `ValueError` if it is not valid."""
    return checked(content, PART, damaged)


def checked_manifest(content, damaged):
    """The content of a `manifest.json`, or a `ValueError` if not valid."""

    def must_be(value, place):
        MANIFEST(value, place)
        names = [part["name"] for part in value["parts"]]
        if len(set(names)) < len(names):
            refuse("parts", names, "names that differ")
        stored = sum(
            shard["samples"]
            for part in value["parts"]
            for shard in part["shards"]
        )
        if not stored:
            refuse("parts", names, "parts with shards")
        views = value["views"]
        if value["samples"] != stored // (views["count"] if views else 1):
            refuse("samples", value["samples"], f"those of {stored} records")
        index = value["index"]
        if index["bytes"] < 16 * index["runs"]:
            refuse("index.bytes", index["bytes"], f"{index['runs']} runs")

    return checked(content, must_be, damaged)


def check_against(outputs, dtype, parts, damaged):
    """Raises a `ValueError` unless the parts can hold records of the outputs.

    Args:
        outputs: list of `StoredOutput`.
        dtype: the type of their records.
        parts: list of each part's JSON content.
        damaged: the beginning of the error message.
    """

    def must_be(value, place):
        for number, part in enumerate(value):
            where = f"{place}[{number}]"
            _constants(outputs, part["constants"], f"{where}.constants")
            for place_of, shard in enumerate(part["shards"]):
                if shard["bytes"] < shard["samples"] * dtype.itemsize:
                    refuse(
                        f"{where}.shards[{place_of}].bytes",
                        shard["bytes"],
                        f"{shard['samples']} records of {dtype.itemsize} bytes",
                    )

    checked(parts, must_be, damaged)


def _constants(outputs, constants, place):
    if constants.keys() != {output.name for output in outputs}:
        refuse(place, constants, "those of each output")
    for output in outputs:
        scaled = output.encoding.needs_samples
        own = {"scale": output.shape[-1]} if scaled else {}
        found = {k: len(v) for k, v in constants[output.name].items()}
        if found != own:
            refuse(f"{place}.{output.name}", found, f"{own or 'none'}")
