"""Views in a cache: the student sees exactly what the teacher was asked."""

import keras
import numpy as np
import pytest

import keras_kd as kd

COUNT, VIEWS = 12, 3


def noisy(elements, uniforms):
    x, labels = elements
    return x + uniforms.astype("float32"), labels


def views_of(seed=0, count=VIEWS):
    x = np.arange(COUNT * 2, dtype="float32").reshape(COUNT, 2)
    labels = np.arange(COUNT) % 2
    return kd.cache.Views(
        x, labels, augment=noisy, count=count, draws=2, seed=seed
    )


def a_teacher():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


@pytest.fixture(scope="module")
def teacher():
    return a_teacher()


@pytest.fixture(scope="module")
def answers(teacher, tmp_path_factory):
    path = tmp_path_factory.mktemp("views")
    exact = kd.cache.Dense("float32")
    kd.cache.write(
        teacher, views_of(), path, outputs=exact, batch_size=5, verbose=0
    )
    return kd.cache.open(path)


def told_in(y):
    (told,) = y["answers"].values()
    return told


def check_epoch(batches, teacher, view):
    seen = []
    for x, y in batches:
        index = y["sample_index"]
        same, _ = views_of().batch(index, view)
        np.testing.assert_array_equal(x, same)
        told = told_in(y)["output"]["values"]
        expected = teacher.predict(x, verbose=0)
        np.testing.assert_allclose(told, expected, rtol=1e-5, atol=1e-5)
        assert "view" not in y
        seen += index.tolist()
    assert sorted(seen) == list(range(COUNT))
    return seen


def test_each_epoch_has_a_view_of_its_own(answers, teacher):
    data = answers.join(views_of(), batch_size=5, seed=0)
    orders = []
    for epoch in range(4):
        batches = [data[number] for number in range(len(data))]
        orders.append(check_epoch(batches, teacher, epoch % VIEWS))
        data.set_epoch(epoch + 1)
    assert orders[0] != orders[1]
    assert len(answers) == COUNT
    assert answers.views_per_sample == VIEWS


def test_views_are_written_in_the_order_of_their_keys(answers):
    # One run, and its end: an index of any length would cost 16 bytes a view.
    assert answers.manifest.content["index"]["runs"] == 2


def test_a_student_is_trained_on_them(answers):
    student = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    distiller = kd.Distiller(answers, student)
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    data = answers.join(views_of(), batch_size=5, seed=0)
    history = distiller.fit(data, epochs=4, verbose=0).history
    assert np.isfinite(history["soft_targets_loss"]).all()
    assert data.epoch == 3


def test_batches_that_say_which_view_they_have(answers, teacher):
    batch = views_of().batch(np.array([3, 1, 7]), np.array([2, 0, 1]))
    x, y = answers.add_to(batch)
    told = told_in(y)["output"]["values"]
    np.testing.assert_allclose(
        told, teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(ValueError, match="does not say which it has"):
        answers.add_to((batch[0], {"sample_index": np.array([3, 1, 7])}))
    with pytest.raises(ValueError, match="views 0 to 2.*Received: view 3"):
        answers.read([0], view=3)


def test_grain_reads_views_in_any_order(answers, teacher):
    grain = pytest.importorskip("grain")
    data = grain.MapDataset.source(views_of()).seed(0).shuffle().batch(6)
    joined = answers.join(data)
    count = 0
    for x, y in joined:
        expected = teacher.predict(x, verbose=0)
        told = told_in(y)["output"]["values"]
        np.testing.assert_allclose(told, expected, rtol=1e-5, atol=1e-5)
        count += len(x)
    assert count == COUNT * VIEWS


def test_several_writers_share_the_views(answers, teacher, tmp_path):
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
        shared.views(index, view)["output"],
        answers.views(index, view)["output"],
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda a: a.join(views_of(seed=1)), "was written about other views"),
        (lambda a: a.join(views_of(count=2)), "was written about other views"),
        (lambda a: a.join(views_of(), np.zeros(COUNT)), "have their labels"),
        (lambda a: a.join(np.zeros((COUNT, 2))), "holds answers about views"),
    ],
)
def test_errors(answers, wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(answers)


def test_other_pixels_under_the_same_name_are_noticed(answers):
    def other(elements, uniforms):
        x, labels = elements
        return x - uniforms.astype("float32"), labels

    changed = kd.cache.Views(
        np.arange(COUNT * 2, dtype="float32").reshape(COUNT, 2),
        np.arange(COUNT) % 2,
        augment=other,
        count=VIEWS,
        draws=2,
    )
    data = answers.join(changed, batch_size=COUNT)
    with pytest.raises(ValueError, match="is not what the teacher"):
        data[0]
