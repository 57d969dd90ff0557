"""Augmented views: the same in any order, and random in each direction."""

import functools
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support import BACKEND

import keras_kd
from keras_kd.cache import AugmentedViews

pytestmark = pytest.mark.one_backend

SAMPLES = 20
IMAGES = np.arange(SAMPLES * 64).reshape(SAMPLES, 8, 8).astype("float32")
LABELS = np.arange(SAMPLES) % 3


def numpys_own(seed, sample, view):
    """The stream of a view, by NumPy's documented arguments alone."""
    bits = np.random.Philox(key=seed, counter=[0, 0, view, sample])
    return np.random.Generator(bits)


def crop(element, generator):
    image, label = element
    down, right = (generator.random(2) * 5).astype(int)
    return image[down : down + 4, right : right + 4], label


def crop_batch(elements, uniforms):
    images, labels = elements
    down, right = (uniforms * 5).astype(int).T
    windows = np.lib.stride_tricks.sliding_window_view(images, (4, 4), (1, 2))
    return windows[np.arange(len(images)), down, right], labels


def darken(image, generator):
    image *= generator.random()  # In place: the data must not change.
    return image


class Mixup:
    """Each view is a mixture with any other sample, labels and all."""

    def __init__(self, images, labels, alpha=0.3):
        self.images, self.alpha = images, alpha
        self.labels = np.eye(3)[labels]

    def __call__(self, element, generator):
        image, label = element
        partner = generator.integers(len(self.images))
        share = generator.beta(self.alpha, self.alpha)
        return (
            share * image + (1 - share) * self.images[partner],
            share * np.eye(3)[label] + (1 - share) * self.labels[partner],
        )


def cropped(**kwargs):
    return AugmentedViews(
        IMAGES, LABELS, **{"augment": crop, "count": 3, "seed": 5, **kwargs}
    )


def assert_same(a, b):
    keras.tree.map_structure(np.testing.assert_array_equal, a, b)


def expected_crop(sample, view, seed=5):
    down, right = (numpys_own(seed, sample, view).random(2) * 5).astype(int)
    return IMAGES[sample, down : down + 4, right : right + 4]


# --- one view: values, order, batches, processes ----------------------------


@pytest.mark.parametrize(
    "given", [{}, {"augment": crop_batch, "draws": 2}], ids=["each", "batch"]
)
def test_views_against_numpy_by_position_and_in_batches(given):
    views = cropped(**given)
    assert len(views) == 3 * SAMPLES
    for position in (0, 7, SAMPLES, 3 * SAMPLES - 1):
        x, y = views[position]
        view, sample = divmod(position, SAMPLES)
        np.testing.assert_array_equal(x, expected_crop(sample, view))
        assert y == {
            "labels": LABELS[sample],
            "sample_index": sample,
            "view": view,
        }
        assert list(y) == ["labels", "sample_index", "view"]
    samples, numbers = np.array([9, 2, 9, 0]), np.array([0, 2, 1, 2])
    x, y = views.batch(samples, numbers)
    expected = [expected_crop(*each) for each in zip(samples, numbers)]
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y["labels"], LABELS[samples])
    np.testing.assert_array_equal(y["sample_index"], samples)
    np.testing.assert_array_equal(y["view"], numbers)
    assert y["sample_index"].dtype == y["view"].dtype == "int64"


def test_one_view_for_a_whole_batch():
    views = cropped()
    assert_same(views.batch([3, 1], 2), views.batch([3, 1], [2, 2]))


def test_iteration_goes_through_each_view_once():
    views = cropped()
    seen = [(int(y["view"]), int(y["sample_index"])) for _, y in views]
    assert seen == [(v, s) for v in range(3) for s in range(SAMPLES)]
    assert_same(views[-1], views[len(views) - 1])
    with pytest.raises(IndexError):
        views[len(views)]


def test_other_seeds_samples_and_views_give_other_pixels():
    blank = np.zeros((SAMPLES, 4), "float32")

    def noise(element, generator):
        return element + generator.random(4)

    made = [
        AugmentedViews(blank, augment=noise, count=4, seed=seed)[position][0]
        for seed in (0, 1, 2**64 - 1)
        for position in range(4 * SAMPLES)
    ]
    assert len(np.unique(made)) == 3 * 4 * SAMPLES * 4


def test_another_process_and_backend_gives_the_same_pixels():
    other = "jax" if BACKEND == "torch" else "torch"
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"needs {other}")
    folders = [Path(keras_kd.__file__).parents[1], Path(__file__).parent]
    folders.append(folders[1].parent)
    program = (
        "import test_views as t; print(t.BACKEND, t.cropped().checksum(),"
        "t.mixed().checksum(), t.nested().checksum())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "KERAS_BACKEND": other,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    here = [views.checksum() for views in (cropped(), mixed(), nested())]
    assert result.stdout.split() == [other, *here]


def test_pickled_views_are_the_same():
    for views in (cropped(), cropped(augment=crop_batch, draws=2), mixed()):
        again = pickle.loads(pickle.dumps(views))
        assert_same(again.batch([4, 0], 1), views.batch([4, 0], 1))


# --- the forms of data ------------------------------------------------------


def mixed():
    return AugmentedViews(
        IMAGES, LABELS, augment=Mixup(IMAGES, LABELS), count=2, seed=1
    )


def nested():
    def shift_both(element, generator):
        inputs, label = element
        moved = {
            "left": inputs["left"] + generator.random(),
            "right": inputs["right"],
        }
        return moved, label

    # Not in the order of the alphabet: the checksum must not depend on it.
    inputs = {"right": IMAGES[:, :2], "left": IMAGES[:, 0]}
    return AugmentedViews(inputs, (LABELS, LABELS), augment=shift_both, count=2)


def test_mixup_mixes_labels_with_the_images():
    x, y = mixed().batch([6, 17], [0, 1])
    for place, (sample, view) in enumerate([(6, 0), (17, 1)]):
        generator = numpys_own(1, sample, view)
        partner = generator.integers(SAMPLES)
        share = generator.beta(0.3, 0.3)
        image = share * IMAGES[sample] + (1 - share) * IMAGES[partner]
        label = np.zeros(3)
        label[LABELS[sample]] += share
        label[LABELS[partner]] += 1 - share
        np.testing.assert_allclose(x[place], image)
        np.testing.assert_allclose(y["labels"][place], label)


def test_without_labels_and_in_place():
    before = IMAGES.copy()
    views = AugmentedViews(IMAGES, augment=darken, count=2)
    x, y = views.batch([1, 2], 1)
    assert list(y) == ["sample_index", "view"]
    factors = [numpys_own(0, sample, 1).random() for sample in (1, 2)]
    for place, factor in enumerate(factors):
        expected = before[place + 1] * np.float32(factor)
        np.testing.assert_allclose(x[place], expected, rtol=1e-6)
    np.testing.assert_array_equal(IMAGES, before)
    listed = AugmentedViews(list(IMAGES), augment=darken, count=2)
    assert_same(listed.batch([1, 2], 1), (x, y))
    assert_same(listed.batch([1, 2], 1), (x, y))


def test_inputs_in_a_dict_and_labels_in_a_tuple():
    x, y = nested().batch([3, 5], 0)
    shift = np.array([numpys_own(0, s, 0).random() for s in (3, 5)])[:, None]
    np.testing.assert_allclose(x["left"], IMAGES[[3, 5], 0] + shift)
    np.testing.assert_array_equal(x["right"], IMAGES[[3, 5], :2])
    assert_same(y["labels"], (LABELS[[3, 5]], LABELS[[3, 5]]))
    assert_same(nested()[5], keras.tree.map_structure(lambda a: a[1], (x, y)))


def test_sources_of_samples(tmp_path):
    grain = pytest.importorskip("grain.python")
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    source = grain.MapDataset.source(IMAGES).map(lambda image: image)
    for data in (mapped, source, list(IMAGES)):
        for how in ({}, {"augment": crop_batch, "draws": 2}):
            given = {"augment": crop, "count": 3, "seed": 5, **how}
            views = AugmentedViews(data, LABELS.tolist(), **given)
            assert_same(views.batch([8, 1], 2), cropped().batch([8, 1], 2))


def test_images_of_many_sizes_are_cropped_to_one():
    wider = np.pad(IMAGES[1], ((0, 3), (0, 2)))
    views = AugmentedViews(
        [IMAGES[0], wider], [0, 1], augment=crop, count=1, seed=5
    )
    expected = [expected_crop(0, 0), expected_crop(1, 0)]
    np.testing.assert_array_equal(views.batch([0, 1], 0)[0], expected)


def test_columns_of_tables_are_read_by_position():
    class Column:  # such as pandas': [i] looks for the label i
        def __getitem__(self, label):
            return LABELS[::-1][label]

        def __len__(self):
            return SAMPLES

        def to_numpy(self):
            return LABELS

    views = AugmentedViews(IMAGES, Column(), augment=crop, count=1, seed=5)
    assert_same(views.batch([7, 3], 0), cropped().batch([7, 3], 0))


# --- pipelines --------------------------------------------------------------


def test_grain_shuffles_repeats_and_batches_the_same_views():
    grain = pytest.importorskip("grain.python")
    views = cropped()
    dataset = grain.MapDataset.source(views).seed(3).shuffle().repeat(2)
    places = []
    for x, y in dataset.batch(8, drop_remainder=False).to_iter_dataset():
        assert_same((x, y), views.batch(y["sample_index"], y["view"]))
        places += (y["view"] * SAMPLES + y["sample_index"]).tolist()
    assert sorted(places) == sorted(2 * list(range(len(views))))
    assert places != sorted(places)


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's own loader")
def test_pytorch_loads_the_same_views():
    from torch.utils.data import DataLoader

    views = cropped()
    places = []
    for x, y in DataLoader(views, batch_size=8, shuffle=True):
        y = {key: value.numpy() for key, value in y.items()}
        assert_same((x.numpy(), y), views.batch(y["sample_index"], y["view"]))
        places += (y["view"] * SAMPLES + y["sample_index"]).tolist()
    assert sorted(places) == list(range(len(views)))


# --- what identifies them ---------------------------------------------------


def test_settings_are_json_and_name_the_function():
    expected = {
        "samples": SAMPLES,
        "count": 3,
        "seed": 5,
        "draws": None,
        "augment": "test_views.crop",
    }
    assert json.loads(json.dumps(cropped().settings())) == expected
    partly = functools.partial(functools.partial(crop))
    assert cropped(augment=partly).settings() == expected
    assert mixed().settings()["augment"] == "test_views.Mixup"
    draws = cropped(augment=crop_batch, draws=np.int64(2)).settings()
    assert json.loads(json.dumps(draws))["draws"] == 2


def test_checksum_sees_what_the_settings_do_not():
    def views(strength, images=IMAGES):
        def add(element, generator):
            return element[0] + strength * generator.random(), element[1]

        return AugmentedViews(images, LABELS, augment=add, count=2)

    changed = IMAGES.copy()
    changed[-1, -1, -1] += 1
    assert views(1.0).settings() == views(2.0).settings()
    checksums = {views(1.0).checksum(), views(2.0).checksum()}
    checksums |= {views(1.0, changed).checksum(), views(1.0).checksum()}
    assert len(checksums) == 3


# --- the random numbers -----------------------------------------------------


def uniforms(seed, sample_index, view, draws):
    """The numbers that `augment` gets, for a batch at once."""
    views = AugmentedViews(
        # Zeros that take no memory.
        np.broadcast_to(np.uint8(0), 2**63 - 1),
        augment=lambda elements, uniforms: uniforms,
        count=2**41,
        seed=seed,
        draws=draws,
    )
    return views.batch(sample_index, view)[0]


def generated(seed, sample_index, view, draws):
    """The numbers that `augment` gets, one by one."""
    views = AugmentedViews(
        np.broadcast_to(np.uint8(0), 2**63 - 1),
        augment=lambda element, generator: generator.random(draws),
        count=2**41,
        seed=seed,
    )
    return views.batch(sample_index, view)[0]


@pytest.mark.parametrize("draws", [1, 4, 5, 8])
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_streams_are_numpys_to_the_bit(seed, draws):
    random = np.random.default_rng(0)
    samples = np.array([0, 1, 2**63 - 2, *random.integers(2**62, size=5)])
    views = np.array([0, 2**40, 3, *random.integers(2**20, size=5)])
    expected = [
        numpys_own(seed, sample, view).random(draws)
        for sample, view in zip(samples.tolist(), views.tolist())
    ]
    for numbers in (uniforms, generated):
        found = numbers(seed, samples, views, draws)
        np.testing.assert_array_equal(found, expected)


def test_no_two_streams_share_a_number():
    samples, views = (each.ravel() for each in np.indices((5000, 8)))
    numbers = uniforms(0, samples, views, 12)
    assert len(np.unique(numbers)) == numbers.size
    # NumPy's second block is the next value of the counter, as here.
    later = generated(0, [0], [0], 5000)
    assert len(np.intersect1d(later, numbers)) == 12


def chi_square(*columns, bins):
    """By how many standard deviations the counts are off the uniform ones."""
    cells = [np.floor(column * bins).astype(int) for column in columns]
    cell = np.ravel_multi_index(cells, [bins] * len(cells))
    counts = np.bincount(cell, minlength=bins ** len(cells))
    expected = cell.size / counts.size
    statistic = np.sum((counts - expected) ** 2 / expected)
    freedom = counts.size - 1
    return (statistic - freedom) / np.sqrt(2 * freedom)


def test_neighbors_are_uniform_and_independent():
    size = 40_000
    numbers = np.arange(size)
    zeros = np.zeros_like(numbers)
    by_sample = uniforms(7, numbers, zeros, 8)
    by_view = uniforms(7, zeros, numbers, 8)
    next_view = uniforms(7, numbers, zeros + 1, 8)
    next_seed = uniforms(8, numbers, zeros, 8)
    for draw in range(8):
        column = by_sample[:, draw]
        for single in (column, by_view[:, draw], next_seed[:, draw]):
            assert abs(chi_square(single, bins=100)) < 5
        for other in (
            np.roll(column, 1),
            next_view[:, draw],
            next_seed[:, draw],
            by_sample[:, (draw + 1) % 8],
            by_view[:, draw],
        ):
            assert abs(chi_square(column, other, bins=16)) < 5
            correlation = np.corrcoef(column, other)[0, 1]
            assert abs(correlation) < 5 / np.sqrt(size)


# --- errors -----------------------------------------------------------------


def wrongly_structured(element, generator):
    return element[0]


def sometimes_wrong(element, generator):
    return element if element[1] == LABELS[0] else element[0]


def of_any_size(element, generator):
    return element[0][: 1 + generator.integers(8)], element[1]


class Batches(keras.utils.PyDataset):
    """Gives batches, which must not be taken for samples."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return IMAGES[5 * index : 5 * index + 5]


def half_of_them(elements, uniforms):
    return elements[0][::2], elements[1][::2]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"count": 0}, "`count` must be a positive integer.*count=0"),
        ({"count": 1.5}, "Received: count=1.5"),
        ({"count": True}, "Received: count=True"),
        ({"seed": -1}, "`seed` must be a non-negative integer.*seed=-1"),
        ({"seed": 2**64}, "Received: seed=1844"),
        ({"draws": 0}, "`draws` must be a positive integer"),
        ({"augment": None}, "must be a function.*augment=None"),
    ],
)
def test_arguments_out_of_range(kwargs, message):
    with pytest.raises(ValueError, match=message):
        cropped(**kwargs)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (IMAGES, LABELS[:-1], r"Received: \[19, 20\] samples"),
        ((IMAGES, IMAGES[1:]), None, r"Received: \[19, 20\] samples"),
        ([IMAGES, IMAGES], LABELS, r"\[2, 20\].*Several inputs go into"),
        (IMAGES[:0], None, r"one or more. Received: \[0\]"),
        (iter(IMAGES), None, "any sample by its index.*Received: <.*iterator"),
        (np.float32(1), None, "of type float32"),
        (np.array(1.0), None, "of type ndarray"),
        (Batches(), None, "before it is batched"),
    ],
)
def test_data_without_random_access_or_one_length(x, y, message):
    with pytest.raises(ValueError, match=message):
        AugmentedViews(x, y, augment=crop, count=1)


@pytest.mark.parametrize(
    ("sample_index", "view", "message"),
    [
        ([SAMPLES], 0, "`sample_index` must be from 0 to 19. Received: 20"),
        ([0, -1], 0, "Received: -1 to 0"),
        ([0], 3, "`view` must be from 0 to 2. Received: 3"),
        ([0.0], 0, "`sample_index` must be integers.*float64"),
        ([], 0, "one or more"),
        (3, 0, r"a list of indices.*Received: shapes \(\) and \(\)"),
        ([0, 1, 2], [0, 1], r"Received: shapes \(3,\) and \(2,\)"),
    ],
)
def test_views_that_are_not_there(sample_index, view, message):
    with pytest.raises(ValueError, match=message):
        cropped().batch(sample_index, view)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"augment": wrongly_structured}, r"Received: ndarray of shape \(8, 8"),
        ({"augment": sometimes_wrong}, "With labels that is `\\(x, labels\\)`"),
        ({"augment": of_any_size}, "one structure and shape. Received: shapes"),
        ({"augment": wrongly_structured, "draws": 1}, "in the same structure"),
        ({"augment": half_of_them, "draws": 1}, "given 4 elements. Received:"),
    ],
)
def test_functions_that_make_no_batch(kwargs, message):
    with pytest.raises(ValueError, match=message):
        cropped(**kwargs).batch([0, 1, 2, 4], 0)
