"""Cached predictions validate as a live teacher does, in each form of data."""

import keras
import numpy as np
import pytest
from support import cross_entropy

import keras_kd as kd

# Keras warns so of data whose length it does not know: Grain, generators.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")
COUNT, BATCH = 20, 8
ORDER = np.random.default_rng(2).permutation(COUNT)
WEIGHT = np.linspace(0.0, 2.0, COUNT, dtype="float32")


def data(seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(COUNT, 4)).astype("float32")
    return x, random.integers(0, 3, COUNT)


def model(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def compiled(teacher):
    distiller = kd.Distiller(teacher, model(1))
    # A student that stays as it is.
    optimizer = keras.optimizers.SGD(0.0)
    metrics = ["accuracy", kd.metrics.TeacherAgreement()]
    distiller.compile(optimizer, cross_entropy(), metrics=metrics)
    return distiller


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Of the training data, and of the validation data."""
    teacher, caches = model(0), []
    for seed in (0, 1):
        path = tmp_path_factory.mktemp("cache")
        exact = kd.cache.Dense("float32")
        kd.cache.write(teacher, data(seed)[0], path, outputs=exact, verbose=0)
        caches.append(kd.cache.open(path))
    return caches


@pytest.fixture(scope="module")
def distiller(caches):
    return compiled(caches[0])


@pytest.fixture(scope="module")
def expected():
    """What a live teacher's distiller finds, without weights and with."""
    live = compiled(model(0))
    return [
        live.evaluate(*data(1), BATCH, 0, weight, return_dict=True)
        for weight in (None, WEIGHT)
    ]


class Batches(keras.utils.PyDataset):
    def __init__(self, samples):
        super().__init__()
        self.samples = samples

    def __len__(self):
        return -(-COUNT // BATCH)

    def __getitem__(self, number):
        part = self.samples[number * BATCH : (number + 1) * BATCH]
        return stacked(part)


def stacked(samples):
    return keras.tree.map_structure(lambda *each: np.stack(each), *samples)


def tf_data(samples):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices(stacked(samples))
    return dataset.batch(BATCH)


def grain_map(samples):
    grain = pytest.importorskip("grain")
    dataset = grain.MapDataset.source(samples)
    return dataset.batch(BATCH, drop_remainder=False)


def grain_iter(samples):
    return grain_map(samples).to_iter_dataset()


def data_loader(samples):
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(samples, batch_size=BATCH)


FORMS = [Batches, tf_data, grain_map, grain_iter, data_loader]


def check(distiller, caches, joined, expected):
    training = caches[0].join(*data(0), batch_size=BATCH)
    history = distiller.fit(
        training, validation_data=joined, epochs=2, verbose=0
    ).history
    found = distiller.evaluate(joined, verbose=0, return_dict=True)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(found[name], value, **close)
        # In each epoch; and again, as `fit` may keep the data set.
        np.testing.assert_allclose(history[f"val_{name}"], value, **close)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_data_sets_of_batches(form, weighted, distiller, caches, expected):
    samples = [
        (x, {"labels": y, "sample_index": i}, *[WEIGHT[i]] * weighted)
        for i, (x, y) in enumerate(zip(*data(1)))
    ]
    if not weighted:  # Weighted means depend on which are in one batch.
        samples = [samples[i] for i in ORDER]
    joined = caches[1].join(form(samples))
    check(distiller, caches, joined, expected[weighted])


@pytest.mark.parametrize("weighted", [False, True])
def test_arrays(weighted, distiller, caches, expected):
    weights, seed = [WEIGHT] * weighted, None if weighted else 0
    joined = caches[1].join(*data(1), *weights, batch_size=BATCH, seed=seed)
    check(distiller, caches, joined, expected[weighted])


def test_augmented_views(distiller, tmp_path, caches, expected):
    views = kd.cache.AugmentedViews(
        *data(1), augment=lambda element, uniforms: element, count=2, draws=1
    )
    exact = kd.cache.Dense("float32")
    kd.cache.write(model(0), views, tmp_path, outputs=exact, verbose=0)
    joined = kd.cache.open(tmp_path).join(views, batch_size=BATCH)
    check(distiller, caches, joined, expected[False])


def test_batches_of_a_generator(distiller, caches, expected):
    x, y = data(1)
    targets = {"labels": y, "sample_index": np.arange(COUNT)}

    def batches():
        for rows in np.split(ORDER, [BATCH, 2 * BATCH]):
            part = {name: values[rows] for name, values in targets.items()}
            yield caches[1].add_to((x[rows], part))

    found = distiller.evaluate(batches(), verbose=0, return_dict=True)
    for name, value in expected[False].items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)
