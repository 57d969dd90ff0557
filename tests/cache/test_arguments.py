"""What `write`, `plan` and `open` refuse, before anything is written."""

import pathlib

import keras
import numpy as np
import pytest

import keras_kd as kd

pytestmark = pytest.mark.one_backend
X = np.ones((8, 4), "float32")


def a_teacher(classes=3):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(classes)])


def write(path, teacher=None, **arguments):
    kd.cache.write(teacher or a_teacher(), X, path, verbose=0, **arguments)


def refused_by_write(path, message, **arguments):
    with pytest.raises(ValueError, match=message):
        write(path, **arguments)
    assert not list(path.iterdir())


@pytest.mark.parametrize(
    "outputs, received",
    [
        ("float16", "outputs='float16'"),
        (kd.cache.TopK, r"outputs=<class .*TopK'>"),
        ({"": "float16"}, r"outputs=\{'': 'float16'\}"),
        ({"": kd.cache.Dense}, "class .*Dense"),
        ({}, r"outputs=\{\}"),
        ([kd.cache.Dense()], r"outputs=\[<"),
    ],
)
def test_outputs_that_are_no_encodings(outputs, received, tmp_path):
    message = f"`outputs` must be a way to store.*cache.Int8.*{received}"
    refused_by_write(tmp_path, message, outputs=outputs)
    if isinstance(outputs, (str, list)):  # To `plan` these are taps.
        return
    with pytest.raises(ValueError, match=message):
        kd.cache.plan(a_teacher(), X, epochs=3, outputs=outputs, verbose=0)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", True, None])
def test_batch_sizes_that_are_none(batch_size, tmp_path):
    message = f"`batch_size` must be a positive int.*batch_size={batch_size!r}"
    refused_by_write(tmp_path, message, batch_size=batch_size)
    write(tmp_path, batch_size=np.int64(3))


NOT_NAMES = ["abc", 3, {"a", "b", "c"}, [b"a", b"b", b"c"], [], [X, X, X]]


@pytest.mark.parametrize("names", NOT_NAMES, ids=repr)
def test_class_names_that_are_none(names, tmp_path):
    message = r"class_names.*must be a list of the names.*Received: class_na"
    refused_by_write(tmp_path, message, metadata={"class_names": names})
    write(tmp_path)
    with pytest.raises(ValueError, match=message):
        kd.cache.open(tmp_path, metadata={"class_names": names})


@pytest.mark.parametrize("labels", [[7, 3, 5, 3], ["c", "a", "b", "a"]])
def test_class_names_that_are_numpys(labels, tmp_path):
    names = np.unique(labels)
    write(tmp_path, metadata={"class_names": names})
    kd.cache.open(tmp_path, metadata={"class_names": names})
    kd.cache.open(tmp_path, metadata={"class_names": sorted(set(labels))})
    with pytest.raises(ValueError, match="with another class_names"):
        kd.cache.open(tmp_path, metadata={"class_names": names[::-1]})


def test_a_name_for_each_class(tmp_path):
    message = "each class.*Received: 1 names.*output of 3 classes"
    refused_by_write(tmp_path, message, metadata={"class_names": ["a"]})
    write(
        tmp_path / "one number",
        a_teacher(1),
        metadata={"class_names": ["no", "yes"]},
    )
    # A feature's channels are no classes.
    teacher = a_teacher()
    hidden = {teacher.layers[-1].name: kd.cache.Dense()}
    write(
        tmp_path / "hidden",
        teacher,
        outputs=hidden,
        metadata={"class_names": ["a"]},
    )
    inputs = keras.Input((4,))
    outputs = {"logits": teacher(inputs), "features": inputs}
    several = keras.Model(inputs, outputs)
    stored = {"[features]": kd.cache.Dense()}
    names = [("n01", "tench"), ("n02", "shark"), ("n03", "ray")]
    write(
        tmp_path / "entry",
        several,
        outputs=stored,
        metadata={"class_names": names},
    )
    kd.cache.open(tmp_path / "entry", metadata={"class_names": names})
    maps = keras.Sequential([inputs, keras.layers.Reshape((2, 2))])
    write(tmp_path / "maps", maps, metadata={"class_names": ["a", "b", "c"]})


def test_a_path_is_no_metadata(tmp_path):
    message = "dataset_id.*JSON can hold.*PurePosixPath.*str.path."
    metadata = {"dataset_id": pathlib.PurePosixPath("digits")}
    refused_by_write(tmp_path, message, metadata=metadata)
    write(tmp_path, metadata={"dataset_id": "digits"})
    with pytest.raises(ValueError, match=message):
        kd.cache.open(tmp_path, metadata=metadata)


@pytest.mark.parametrize("metadata", ["digits", ["a"], {1: "digits"}], ids=repr)
def test_metadata_that_is_none(metadata, tmp_path):
    message = "`metadata` must be a dict.*Received: metadata="
    refused_by_write(tmp_path, message, metadata=metadata)
    write(tmp_path)
    with pytest.raises(ValueError, match=message):
        kd.cache.open(tmp_path, metadata=metadata)


@pytest.mark.parametrize("verify", ["all", None])
def test_verify_that_is_none(verify, tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="`verify` must be one of 'full'"):
        kd.cache.open(tmp_path, verify=verify)


def test_open_with_a_teacher_that_is_none(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="`teacher` must be a Keras.*'x'"):
        kd.cache.open(tmp_path, teacher="x")
