"""open: answers that were stored."""

from keras_kd._src.cache.remote import storage_at
from keras_kd._src.cache.teacher_cache import TeacherCache
from keras_kd._src.specs import check_teacher


def open(
    path,
    *,
    teacher=None,
    class_names=None,
    preprocessing=None,
    dataset_id=None,
    verify="auto",
    memory=False,
    check_inputs=True,
    cache_dir=None,
):
    """Opens stored answers; see `TeacherCache`.

    Args:
        path: the cache's folder, or a url of object storage that `fsspec`
            knows, as `"s3://bucket/answers"`: its files are then copied when
            they are first used.
        teacher: the live teacher, to check by its weights that the answers
            are its own; None for any. A layer without weights, as `Rescaling`,
            is not seen: name it in `preprocessing`.
        class_names: what the cache must have been written with; None for any.
        preprocessing: likewise.
        dataset_id: likewise.
        verify: `"full"` looks at all checksums; `"auto"` at those of as many
            shards as have 256 MB, spread over the cache; `"sizes"` at none.
            Sizes and the manifest are always looked at.
        memory: whether to read all records into memory now, in their order,
            which is faster where they fit. Otherwise they come from the file
            batch by batch, and the system keeps in memory what it can.
        check_inputs: whether inputs that are joined are compared with those
            that the teacher was asked about: some of each shard, by checksum.
            False where the student's differ, as in size.
        cache_dir: where copies of remote files are kept; `~/.cache/keras_kd`
            by default.

    Returns:
        A `TeacherCache`.

    Raises:
        ValueError: there is no whole cache, a part is missing or damaged, it
            was written with something else, or an argument is none of these.

    Example:
    >>> import tempfile, keras, keras_kd as kd
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> folder = tempfile.mkdtemp()
    >>> kd.cache.write(teacher, keras.ops.ones((8, 4)), folder, verbose=0)
    >>> open(folder, teacher=teacher, verify="full")
    <TeacherCache of 8 samples: output (3,) dense>
    """
    if verify not in ("full", "auto", "sizes"):
        raise ValueError(
            "Argument `verify` must be 'full', 'auto' or 'sizes'. Received: "
            f"verify={verify!r}."
        )
    if teacher is not None:
        check_teacher(teacher)
    cache = TeacherCache(storage_at(path, cache_dir), check_inputs)
    manifest, name = cache.manifest, cache.name
    manifest.check(
        name,
        class_names=class_names,
        preprocessing=preprocessing,
        dataset_id=dataset_id,
    )
    if teacher is not None:
        manifest.check_teacher(name, teacher)
    cache.stored.verify(verify)
    if memory:
        cache.stored.load()
    return cache
