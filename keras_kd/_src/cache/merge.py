"""merge: makes one cache of the parts that several writers have written."""

import contextlib

import numpy as np

from keras_kd._src.arguments import integer
from keras_kd._src.atomic_write import atomic_write
from keras_kd._src.cache.contents import PART_NAME
from keras_kd._src.cache.data.keys import MOST_KEYS
from keras_kd._src.cache.data.keys import Numbering
from keras_kd._src.cache.format import Manifest
from keras_kd._src.cache.format import check_same
from keras_kd._src.cache.format import check_shard
from keras_kd._src.cache.format import damaged
from keras_kd._src.cache.format import part_folders
from keras_kd._src.cache.format import read_part
from keras_kd._src.cache.format import write_array
from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.cache.records import StoredOutput
from keras_kd._src.cache.records import record_type
from keras_kd._src.cache.remote import local_path
from keras_kd._src.checked_json import checked
from keras_kd._src.own_folder import held
from keras_kd._src.own_folder import inside


def merge(path, *, samples=None, allow_gaps=False):
    """Makes one cache of all parts in a folder, if nothing is missing.

    Call it once, when all writers have finished; a second process that merges
    the folder at the same time gets an error. Nothing is copied: the parts
    stay where they are, and get a common index and manifest. All checksums are
    compared.

    It may be called again after more parts were written. A reader that is open
    keeps the cache that it opened. So does one that was pickled, as for
    workers, until the next call of `merge`.

    Args:
        path: the cache's folder, which must be local.
        samples: integer, how many samples (not augmented views) the data has:
            0 to samples - 1 must be in the parts. None takes the largest index
            found for the last, or the number that `AugmentedViews` have; then
            no sample of an earlier merge may be missing.
        allow_gaps: whether samples may be missing.

    Raises:
        ValueError: there are no parts; they are of different teachers or
            settings; a part is not finished, or damaged; a sample is missing
            or stored twice; a link leads out of the folder; another process is
            merging the folder.

    Example:
    >>> import tempfile, keras, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> def batches(numbers):
    ...     yield np.ones((2, 4)), {"sample_index": np.array(numbers)}
    >>> folder = tempfile.mkdtemp()
    >>> for part, numbers in {"0": [0, 1], "1": [2, 3]}.items():
    ...     kd.cache.write(
    ...         teacher, batches(numbers), folder, part=part, verbose=0
    ...     )
    >>> kd.cache.merge(folder, samples=4)
    >>> len(kd.cache.open(folder))
    4
    """
    path = local_path(path)
    folders = part_folders(path)
    if not folders:
        raise ValueError(
            "There is nothing to merge. Received: a folder without parts, "
            f"{str(path)!r}; expected one that `keras_kd.cache.write` has "
            "written to."
        )
    if samples is not None:
        samples = integer(samples, "samples", most=MOST_KEYS)
    taken = "Another process is merging the cache. Wait for it."
    with held(path, taken):
        _merge(path, folders, samples, allow_gaps)


def _merge(path, folders, samples, allow_gaps):
    settings, parts = {}, []
    for folder in folders:
        part = _finished_part(path, folder)
        settings = settings or part["settings"]
        check_same(path, settings, part.pop("settings"))
        parts.append(part)
    numbering = Numbering(settings["views"])
    samples = samples or numbering.samples
    expected = samples and samples * numbering.count
    runs = _runs_of_parts(folders, parts, settings)
    index, count = _index_of(runs, expected, allow_gaps, path)
    content = {**settings, "samples": count // numbering.count, "parts": parts}
    earlier = _published(path)
    if earlier and not (samples or allow_gaps):
        _check_none_lost(path, earlier.content, content)
    _publish(path, content, index, earlier)


def _finished_part(path, folder):
    advice = "A part's folder has a name that no reader takes. Rename it."
    checked(folder.name, PART_NAME, advice)
    part = read_part(folder)
    if not part.pop("finished"):
        samples = sum(shard["samples"] for shard in part["shards"])
        raise ValueError(
            f"The part {folder.name!r} is not finished. Received: {samples} "
            f"samples in {str(folder)!r}, of a writer that has not ended. Run "
            "it again (it continues where it stopped), or delete the part's "
            "folder."
        )
    return {"name": folder.name, **part}


def _runs_of_parts(folders, parts, settings):
    """Runs of consecutive keys, in the order of rows; checks all shards."""
    outputs = [StoredOutput.from_config(each) for each in settings["outputs"]]
    dtype, runs = record_type(outputs), [np.zeros((2, 0), "int64")]
    for folder, part in zip(folders, parts):
        for shard in part["shards"]:
            keys = check_shard(folder, shard, dtype)[SAMPLE_INDEX]
            if keys.min() < 0 or keys.max() >= MOST_KEYS:
                raise ValueError(
                    f"{damaged(folder.name)} Received: {shard['file']} with "
                    f"samples of the numbers {keys.min()} to {keys.max()}."
                )
            runs.append(_runs_of(keys))
    return np.concatenate(runs, axis=1)


def _runs_of(keys):
    """Runs of consecutive keys, as an array of first keys and lengths."""
    begins = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 2) != 1)
    lengths = np.diff(begins, append=len(keys))
    return np.stack([keys[begins], lengths])


def _index_of(runs, expected, allow_gaps, path):
    """The index that leads from keys to rows, `(2, runs)`; and how many keys.

    It has each run's first key, and the row of that key; -1 for missing keys.
    """
    keys, lengths = runs
    rows = np.cumsum(lengths) - lengths
    order = np.argsort(keys, kind="stable")
    keys, lengths, rows = keys[order], lengths[order], rows[order]
    # The furthest end so far, as one run may lie within another.
    ends = np.maximum.accumulate(np.concatenate([[0], keys + lengths]))
    if expected is not None and ends[-1] > expected:
        _refuse(path, "too many", [expected], [ends[-1]])
    begins = np.concatenate(
        [keys, [ends[-1] if expected is None else expected]]
    )
    twice = np.flatnonzero(begins < ends)
    if len(twice):
        # Where one run lies within another, only their common keys.
        own = (keys + lengths)[np.minimum(twice, len(keys) - 1)]
        last = np.minimum(ends[twice], own)
        _refuse(path, "more than once", begins[twice], last)
    missing = np.flatnonzero(begins > ends)
    if len(missing) and not allow_gaps:
        _refuse(path, "missing", ends[missing], begins[missing])
    gaps = np.stack([ends[missing], np.full(len(missing), -1)])
    last = np.array([[begins[-1]], [-1]])
    index = np.concatenate([np.stack([keys, rows]), gaps, last], axis=1)
    index = index[:, np.argsort(index[0], kind="stable")]
    return np.ascontiguousarray(_joined(index)), int(lengths.sum())


def _joined(index):
    """Joins runs that the next one continues."""
    step = np.diff(index, axis=1)
    goes_on = (step[0] == step[1]) & (index[1, :-1] >= 0)
    goes_on |= (index[1, :-1] < 0) & (index[1, 1:] < 0)
    return index[:, np.concatenate([[True], ~goes_on])]


def _refuse(path, what, first, end):
    ranges = [f"{a} to {b - 1}" for a, b in zip(first[:5], end[:5])]
    more = ", ..." if len(first) > 5 else ""
    raise ValueError(
        f"Samples are {what} in the parts of {str(path)!r}. Received: numbers "
        f"{', '.join(ranges)}{more} {what} (with augmented views: view * "
        "samples + sample). Write the missing parts, or delete a part that "
        "was written twice; `allow_gaps=True` lets samples be missing."
    )


def _published(path):
    """The manifest in a folder; None where there is none that can be read."""
    file = inside(path, "manifest.json")
    try:
        return Manifest.read(file, str(path))
    except (OSError, ValueError):  # None yet, or it is damaged.
        return None


def _check_none_lost(path, earlier, content):
    """Raises a `ValueError` if a part of the same cache has disappeared."""
    own = ("samples", "parts", "index")
    same = all(earlier[key] == content[key] for key in content.keys() - own)
    samples = content["samples"]
    there = [part["name"] for part in content["parts"]]
    before = [part["name"] for part in earlier["parts"]]
    if same and samples < earlier["samples"] and not {*before} <= {*there}:
        raise ValueError(
            f"The cache {str(path)!r} would lose samples. Received: {samples} "
            f"in the parts {there}; before it had {earlier['samples']}, in "
            f"{before}. Restore what is missing, or write it again; if there "
            f"are to be fewer: `merge(path, samples={samples})`."
        )


def _publish(path, content, index, earlier):
    """Shows readers the new cache; if killed, the earlier one remains."""
    # The index gets a new name: the earlier one stays until the manifest is
    # replaced, and afterwards for those who have opened the earlier cache.
    about = write_array(path, "index", [index])
    about["runs"] = index.shape[1]
    text = Manifest({**content, "index": about}).text()
    atomic_write(path / "manifest.json", lambda file: file.write_text(text))
    replaced = earlier and earlier.content["index"]["file"]
    if replaced in (None, about["file"]):
        return
    # Workers of a reader that was opened before open the replaced one again.
    # Older ones are deleted, as an index of scattered samples may be as large
    # as their records.
    for file in path.glob("index-????????.npy"):
        if file.name not in (replaced, about["file"]):
            # Windows doesn't delete a file that a reader has mapped: it stays
            # until the next merge.
            with contextlib.suppress(OSError):
                file.unlink()
