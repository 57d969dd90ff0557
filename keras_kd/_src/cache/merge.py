"""merge: makes one cache of the parts that writers have left."""

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

    To be called once, when all writers have ended; a second process that
    merges the folder at the same time gets an error. Nothing is copied: the
    parts stay where they are, and get a common index and manifest. All
    checksums are compared. It may be called again, after more parts were
    written; a reader that is open goes on with the cache that it has opened
    (and one that is pickled, as for workers, until `merge` is called once
    more).

    Args:
        path: the cache's folder, local.
        samples: how many samples (not augmented views) the data has: 0 to
            samples - 1 must be there. None if the largest number found is the
            last, or with `AugmentedViews`; what was merged before must be
            there then.
        allow_gaps: whether samples may be missing.

    Raises:
        ValueError: there are no parts, or of several teachers or settings;
            one is not finished, or damaged; a sample is missing or twice in
            the cache; a link leads out of the folder; another process merges
            it.

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
            "it again (it goes on where it was), or delete the part's folder."
        )
    return {"name": folder.name, **part}


def _runs_of_parts(folders, parts, settings):
    """Each run of keys in the order of the rows; checks all shards."""
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
    """Keys as runs of consecutive ones: first keys and lengths."""
    begins = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 2) != 1)
    lengths = np.diff(begins, append=len(keys))
    return np.stack([keys[begins], lengths])


def _index_of(runs, expected, allow_gaps, path):
    """Where each key's record is: `(2, runs)`, and the number of keys.

    Of each run its first key, and that one's row; -1 where keys are missing.
    """
    keys, lengths = runs
    rows = np.cumsum(lengths) - lengths
    order = np.argsort(keys, kind="stable")
    keys, lengths, rows = keys[order], lengths[order], rows[order]
    # Of runs within runs, the furthest end so far.
    ends = np.maximum.accumulate(np.concatenate([[0], keys + lengths]))
    if expected is not None and ends[-1] > expected:
        _refuse(path, "too many", [expected], [ends[-1]])
    begins = np.concatenate(
        [keys, [ends[-1] if expected is None else expected]]
    )
    twice = np.flatnonzero(begins < ends)
    if len(twice):
        # Of a run within another only what both have.
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
    """Runs that go on in the next one, as one."""
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
    """The manifest that is in a folder; None where there is none to read."""
    file = inside(path, "manifest.json")
    try:
        return Manifest.read(file, str(path))
    except (OSError, ValueError):  # None yet, or it is damaged.
        return None


def _check_none_lost(path, earlier, content):
    """Refuses to leave out a part of the same cache that has gone."""
    own = ("samples", "parts", "index")
    same = all(earlier[key] == content[key] for key in content.keys() - own)
    samples = content["samples"]
    there = [part["name"] for part in content["parts"]]
    before = [part["name"] for part in earlier["parts"]]
    if same and samples < earlier["samples"] and not {*before} <= {*there}:
        raise ValueError(
            f"The cache {str(path)!r} would lose samples. Received: {samples} "
            f"in the parts {there}; before it had {earlier['samples']}, in "
            f"{before}. Put back what is missing, or write it again; if there "
            f"are to be fewer: `merge(path, samples={samples})`."
        )


def _publish(path, content, index, earlier):
    """Makes readers see a new cache; a kill leaves the earlier one."""
    # A name of its own leaves the earlier cache as it is until the manifest
    # is replaced, and after that to those who have read the earlier one.
    about = write_array(path, "index", [index])
    about["runs"] = index.shape[1]
    text = Manifest({**content, "index": about}).text()
    atomic_write(path / "manifest.json", lambda file: file.write_text(text))
    replaced = earlier and earlier.content["index"]["file"]
    if replaced in (None, about["file"]):
        return
    # Workers of a reader that was opened before open the replaced one again.
    # Not all are kept: that of scattered samples may be as large as they are.
    for file in path.glob("index-????????.npy"):
        if file.name not in (replaced, about["file"]):
            # Windows keeps what a reader has mapped, until the next merge.
            with contextlib.suppress(OSError):
                file.unlink()
