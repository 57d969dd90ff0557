"""merge: makes one cache of the parts that writers have left."""

import numpy as np

from keras_kd._src.cache.data.keys import Numbering
from keras_kd._src.cache.manifest import Manifest
from keras_kd._src.cache.manifest import check_same
from keras_kd._src.cache.part import read_description
from keras_kd._src.cache.part_journal import PartJournal
from keras_kd._src.cache.paths import inside
from keras_kd._src.cache.paths import local_path
from keras_kd._src.cache.paths import part_folders
from keras_kd._src.cache.publishing import publish
from keras_kd._src.cache.publishing import published
from keras_kd._src.cache.records import SAMPLE_INDEX
from keras_kd._src.cache.records import runs_of
from keras_kd._src.cache.rows import checked_rows
from keras_kd._src.cache.rows import checked_shards
from keras_kd._src.cache.rows import header_bytes


def merge(path, *, samples=None, allow_gaps=False):
    """Makes one cache of all parts in a folder, if nothing is missing.

    To be called once, when all writers have ended. Nothing is copied: the
    parts stay where they are, and get a common index and manifest. All
    checksums are looked at. It may be called again, after more parts were
    written; a reader that is open goes on with the cache of before (and one
    that is pickled, as for workers, until it is called once more).

    Args:
        path: the cache's folder, local.
        samples: how many samples (not views) the data has: 0 to samples - 1
            must be there. None if the largest number found is the last, or
            the `AugmentedViews` tell; what was merged before must be there
            then.
        allow_gaps: whether samples may be missing.

    Raises:
        ValueError: there are no parts, or of several teachers or settings;
            one is not finished, or damaged; a sample is missing or twice in
            the cache.

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
    folders = [
        inside(path, folder.relative_to(path) / "rows.npy").parent
        for folder in part_folders(path)
    ]
    if not folders:
        raise ValueError(
            "There is nothing to merge. Received: a folder without parts, "
            f"{str(path)!r}; expected one that `keras_kd.cache.write` has "
            "written to."
        )
    settings, parts = {}, []
    for folder in folders:
        description = read_description(folder)
        settings = settings or description["settings"]
        check_same(path, settings, description["settings"])
        parts.append(_part(folder, description))
    dtype = Manifest({**settings, "samples": 0, "parts": []}).dtype
    runs = [
        _checked_runs(folder, part, dtype)
        for folder, part in zip(folders, parts)
    ]
    numbering = Numbering(settings["views"])
    samples = samples or numbering.samples
    expected = samples and samples * numbering.count
    index, count = index_of(runs, expected, allow_gaps, path)
    earlier = published(path)
    content = {**settings, "samples": count // numbering.count}
    if earlier and not (samples or allow_gaps):
        _check_none_lost(path, earlier.content, content, parts)
    content = {
        **content,
        "parts": [
            _public(folder, part) for folder, part in zip(folders, parts)
        ],
    }
    publish(path, content, index, earlier)


def _part(folder, description):
    journal = PartJournal(folder)
    if not journal.finished:
        raise ValueError(
            f"The part {folder.name!r} is not finished. Received: "
            f"{journal.samples} samples in {str(folder)!r}, without the last "
            "line of a writer that has ended. Run it again (it goes on where "
            "it was), or delete the part's folder."
        )
    return {
        "name": folder.name,
        "samples": journal.samples,
        "constants": description["constants"],
        "written_with": description["written_with"],
        "shards": journal.shards,
    }


def _public(folder, part):
    """A part as the manifest has it: the index holds the runs."""
    shards = [
        {key: value for key, value in shard.items() if key != "runs"}
        for shard in part["shards"]
    ]
    header = header_bytes(folder / "rows.npy")
    return {**part, "header": header, "shards": shards}


def _check_none_lost(path, earlier, content, parts):
    """Refuses to leave out a part of the same cache that has gone."""
    samples = content["samples"]
    same = {**earlier, "samples": samples} == {**earlier, **content}
    there = [part["name"] for part in parts]
    before = [part["name"] for part in earlier["parts"]]
    if same and samples < earlier["samples"] and not {*before} <= {*there}:
        raise ValueError(
            f"The cache {str(path)!r} would lose samples. Received: {samples} "
            f"in the parts {there}; before it had {earlier['samples']}, in "
            f"{before}. Put back what is missing, or write it again; if there "
            f"are to be fewer: `merge(path, samples={samples})`."
        )


def _checked_runs(folder, part, dtype):
    """Runs of a part's keys; `(2, runs)`, in the order of its rows."""
    rows = checked_rows(folder / "rows.npy", part, dtype)
    runs = [np.zeros((2, 0), "int64")]
    for shard, records in checked_shards(rows, part["name"], part["shards"]):
        known = shard["runs"]
        runs.append(runs_of(records[SAMPLE_INDEX]) if known is None else known)
    return np.concatenate(runs, axis=1)


def index_of(runs, expected, allow_gaps, path):
    """Where each key's record is.

    Args:
        runs: for each part, `(2, runs)`: first key and length.
        expected: number of keys that there should be, from 0; or None.
        allow_gaps: whether some may be missing.
        path: the cache's folder, for errors.

    Returns:
        `(index, count)`: int64 of shape `(2, runs)`, each run's first key and
        its row, counted over all parts; -1 where keys are missing. And the
        number of keys.

    Raises:
        ValueError: a key is missing or twice.

    Example:
    >>> parts = [np.array([[4], [2]]), np.array([[0], [4]])]
    >>> index, count = index_of(parts, 6, False, "answers")
    >>> index.tolist(), count
    ([[0, 4, 6], [2, 0, -1]], 6)
    """
    keys, lengths = np.concatenate(runs, axis=1)
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
        # Of a run within another only the part that both have.
        own = (keys + lengths)[np.minimum(twice, len(keys) - 1)]
        _refuse(
            path,
            "more than once",
            begins[twice],
            np.minimum(ends[twice], own),
        )
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
        f"{', '.join(ranges)}{more} {what} (with views: view * samples + "
        "sample). Write the missing parts, or delete a part that was written "
        "twice; `allow_gaps=True` lets samples be missing."
    )
