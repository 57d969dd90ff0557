"""Augmented views in a cache: the student sees what the teacher saw."""

import pathlib

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd

COUNT, VIEWS = 12, 3


def noisy(elements, uniforms):
    x, labels = elements
    return x + uniforms.astype("float32"), labels


def views_of(seed=0, count=VIEWS):
    x = np.arange(COUNT * 2, dtype="float32").reshape(COUNT, 2)
    labels = np.arange(COUNT) % 2
    return kd.cache.AugmentedViews(
        x, labels, augment=noisy, count=count, draws=2, seed=seed
    )


def a_teacher():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


@pytest.fixture(scope="module")
def teacher():
    return a_teacher()


@pytest.fixture(scope="module")
def cache(teacher, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache")
    exact = kd.cache.Dense("float32")
    kd.cache.write(
        teacher, views_of(), path, outputs=exact, batch_size=5, verbose=0
    )
    return kd.cache.open(path)


def predictions_in(y):
    (predictions,) = y["predictions"].values()
    return predictions


def check_epoch(batches, teacher, view):
    seen = []
    for x, y in batches:
        index = y["sample_index"]
        same, _ = views_of().batch(index, view)
        np.testing.assert_array_equal(x, same)
        found = predictions_in(y)["output"]["values"]
        expected = teacher.predict(x, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert "view" not in y
        seen += index.tolist()
    assert sorted(seen) == list(range(COUNT))
    return seen


def test_each_epoch_has_a_view_of_its_own(cache, teacher):
    data = cache.join(views_of(), batch_size=5, seed=0)
    orders = []
    for epoch in range(4):
        batches = [data[number] for number in range(len(data))]
        orders.append(check_epoch(batches, teacher, epoch % VIEWS))
        data.set_epoch(epoch + 1)
    assert orders[0] != orders[1]
    assert len(cache) == COUNT
    assert cache.views_per_sample == VIEWS


@pytest.mark.one_backend
def test_views_are_written_in_the_order_of_their_keys(cache):
    # One run, and its end: an index of any length would cost 16 bytes a view.
    (index,) = pathlib.Path(cache.name).glob("index*.npy")
    assert np.load(index).nbytes == 2 * 16


def test_a_student_is_trained_on_them(cache):
    keras.utils.set_random_seed(1)
    student = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    distiller = kd.Distiller(cache, student)
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    data = cache.join(views_of(), batch_size=5, seed=0)
    history = distiller.fit(data, epochs=4, verbose=0).history
    assert np.isfinite(history["soft_targets_loss"]).all()
    assert data.epoch == 3


@pytest.mark.one_backend
def test_batches_that_say_which_view_they_have(cache, teacher):
    batch = views_of().batch(np.array([3, 1, 7]), np.array([2, 0, 1]))
    x, y = cache.add_to(batch)
    found = predictions_in(y)["output"]["values"]
    np.testing.assert_allclose(
        found, teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(ValueError, match="does not say which it has"):
        cache.add_to((batch[0], {"sample_index": np.array([3, 1, 7])}))
    with pytest.raises(
        ValueError, match="views 0 to 2.*Received: augmented view 3"
    ):
        cache.read([0], view=3)


@pytest.mark.one_backend
def test_grain_reads_views_in_any_order(cache, teacher):
    grain = pytest.importorskip("grain")
    data = grain.MapDataset.source(views_of()).seed(0).shuffle().batch(6)
    joined = cache.join(data)
    count = 0
    for x, y in joined:
        expected = teacher.predict(x, verbose=0)
        found = predictions_in(y)["output"]["values"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        count += len(x)
    assert count == COUNT * VIEWS


def test_several_writers_share_the_views(cache, teacher, tmp_path):
    views = views_of()

    def share(part):
        for view in range(VIEWS):
            yield views.batch(np.arange(part, COUNT, 2), view)

    for part in range(2):
        kd.cache.write(
            teacher,
            share(part),
            tmp_path,
            outputs=kd.cache.Dense("float32"),
            part=str(part),
            views=views,
            verbose=0,
        )
    kd.cache.merge(tmp_path, samples=COUNT)
    shared = kd.cache.open(tmp_path)
    index, view = np.arange(COUNT), np.arange(COUNT) % VIEWS
    np.testing.assert_allclose(
        shared.predictions_of(index, view)["output"],
        cache.predictions_of(index, view)["output"],
        rtol=1e-5,
        atol=1e-5,
    )


def test_tensors_are_samples_too():
    array = np.arange(COUNT * 2, dtype="float32").reshape(COUNT, 2)
    views = kd.cache.AugmentedViews(
        keras.ops.convert_to_tensor(array),
        keras.ops.convert_to_tensor(np.arange(COUNT) % 2),
        augment=noisy,
        count=VIEWS,
        draws=2,
    )
    x, y = views.batch([8, 1], 2)
    same_x, same_y = views_of().batch([8, 1], 2)
    np.testing.assert_array_equal(numpy(x), same_x)
    np.testing.assert_array_equal(numpy(y["labels"]), same_y["labels"])


@pytest.mark.one_backend
@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda a: a.join(views_of(seed=1)), "for other augmented views"),
        (
            lambda a: a.join(views_of(count=2)),
            "for other augmented views",
        ),
        (lambda a: a.join(views_of(), np.zeros(COUNT)), "have their labels"),
        (lambda a: a.join(np.zeros((COUNT, 2))), "for augmented views"),
    ],
)
def test_errors(cache, wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(cache)


@pytest.mark.one_backend
def test_other_pixels_under_the_same_name_are_noticed(cache):
    def other(elements, uniforms):
        x, labels = elements
        return x - uniforms.astype("float32"), labels

    changed = kd.cache.AugmentedViews(
        np.arange(COUNT * 2, dtype="float32").reshape(COUNT, 2),
        np.arange(COUNT) % 2,
        augment=other,
        count=VIEWS,
        draws=2,
    )
    data = cache.join(changed, batch_size=COUNT)
    with pytest.raises(ValueError, match="is not what the teacher"):
        data[0]
