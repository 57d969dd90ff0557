"""Cached predictions find their samples in any pipeline and order."""

import pickle

import keras
import numpy as np
import pytest
from support import BACKEND

import keras_kd as kd

# Joining is in NumPy; training on what it gives is in test_validation.py.
pytestmark = pytest.mark.one_backend
COUNT, BATCH = 40, 6


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(COUNT, 5)).astype("float32")
    return x, generator.integers(0, 3, COUNT)


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, name="hidden"),
            keras.layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def cache(teacher, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache")
    outputs = {"": kd.cache.Dense("float32"), "hidden": kd.cache.Int8()}
    kd.cache.write(
        teacher, data[0], path, outputs=outputs, shard_samples=16, verbose=0
    )
    return kd.cache.open(path)


@pytest.fixture(scope="module")
def expected(teacher, data):
    return teacher.predict(data[0], verbose=0)


def plain(value):
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)


def predictions_in(y):
    (predictions,) = y["predictions"].values()
    return predictions


def check(batches, data, expected, times=1):
    """Every sample is there `times`, with its own input, label, prediction."""
    seen = []
    for x, y, *_ in batches:
        index = plain(y["sample_index"])
        np.testing.assert_array_equal(plain(x), data[0][index])
        np.testing.assert_array_equal(plain(y["labels"]), data[1][index])
        found = plain(predictions_in(y)["output"]["values"])
        np.testing.assert_allclose(found, expected[index], rtol=1e-5, atol=1e-6)
        assert plain(predictions_in(y)["hidden"]["values"]).shape == (
            len(index),
            4,
        )
        seen += index.tolist()
    assert sorted(seen) == sorted(list(range(COUNT)) * times)
    return seen


def batches_of(data, order):
    for start in range(0, COUNT, BATCH):
        chosen = order[start : start + BATCH]
        yield (
            data[0][chosen],
            {"labels": data[1][chosen], "sample_index": chosen},
        )


class Shuffled(keras.utils.PyDataset):
    def __init__(self, data, **kwargs):
        super().__init__(**kwargs)
        self.data, self.ended = data, 0
        order = np.random.default_rng(1).permutation(COUNT)
        self.batches = list(batches_of(data, order))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, number):
        return self.batches[number]

    def on_epoch_end(self):
        self.ended += 1


def test_arrays(cache, data, expected):
    joined = cache.join(*data, batch_size=BATCH)
    assert len(joined) == 7
    in_order = check(map(joined.__getitem__, range(7)), data, expected)
    assert in_order == list(range(COUNT))


def test_arrays_in_an_order_of_the_seed_and_the_epoch(cache, data, expected):
    def order(seed, epoch):
        joined = cache.join(*data, batch_size=BATCH, seed=seed)
        for earlier in range(epoch + 1):
            joined.set_epoch(earlier)
        batches = [joined[number] for number in range(len(joined))]
        again = cache.join(*data, batch_size=BATCH, seed=seed)
        again.set_epoch(epoch)
        np.testing.assert_array_equal(again.order, joined.order)
        return check(batches, data, expected)

    assert order(0, 0) != list(range(COUNT))
    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_the_arrays_of_two_hosts(cache, data, expected):
    batches = []
    for host in range(2):
        mine = np.arange(host, COUNT, 2)
        joined = cache.join(
            data[0][mine], data[1][mine], sample_index=mine, batch_size=BATCH
        )
        batches += [joined[number] for number in range(len(joined))]
    check(batches, data, expected)


def test_sample_weights_and_several_inputs(teacher, data, tmp_path):
    left, right = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    both = keras.Model(
        {"a": left, "b": right}, teacher(keras.layers.add([left, right]))
    )
    x = {"a": data[0], "b": data[0] * 2}
    kd.cache.write(both, x, tmp_path, verbose=0)
    joined = kd.cache.open(tmp_path).join(
        x, {"c": data[1]}, np.arange(COUNT), batch_size=4, seed=0
    )
    inputs, y, weight = joined[0]
    np.testing.assert_array_equal(weight, y["sample_index"])
    np.testing.assert_array_equal(inputs["b"], x["b"][y["sample_index"]])
    np.testing.assert_array_equal(y["labels"]["c"], data[1][weight])


def test_py_dataset(cache, data, expected):
    dataset = Shuffled(data, workers=2, max_queue_size=3)
    joined = cache.join(dataset)
    assert (joined.workers, joined.max_queue_size) == (2, 3)
    batches = [joined[number] for number in range(len(joined))]
    assert check(batches, data, expected) != list(range(COUNT))
    joined.on_epoch_end()
    assert dataset.ended == 1
    joined.set_epoch(5)  # It has no use for it.
    twice = cache.join(cache.join(*data, seed=0))
    twice.set_epoch(5)
    assert twice.dataset.epoch == 5


def test_tf_data(cache, data, expected):
    tf = pytest.importorskip("tensorflow")
    x, labels = data
    y = {"labels": labels, "sample_index": np.arange(COUNT)}
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    joined = cache.join(dataset.shuffle(COUNT, seed=0).repeat(2).batch(BATCH))
    spec = predictions_in(joined.element_spec[1])["output"]["values"]
    assert spec.shape.as_list() == [None, 3]
    check(joined, data, expected, times=2)
    hosts = [
        batch
        for host in range(2)
        for batch in cache.join(dataset.shard(2, host).batch(BATCH))
    ]
    check(hosts, data, expected)


def test_grain(cache, data, expected):
    grain = pytest.importorskip("grain")
    x, labels = data
    samples = (
        grain.MapDataset.range(COUNT)
        .seed(0)
        .shuffle()
        .map(lambda i: (x[i], {"labels": labels[i], "sample_index": i}))
    )
    joined = cache.join(samples.batch(BATCH))
    first = check(list(joined), data, expected)
    joined = cache.join(samples.repeat(2).to_iter_dataset().batch(BATCH))
    second = check(list(joined), data, expected, times=2)
    assert first != second[:COUNT] or second[:COUNT] != second[COUNT:]


@pytest.mark.skipif(BACKEND != "torch", reason="needs the PyTorch backend")
@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader(cache, data, expected, workers):
    import torch

    class Samples(torch.utils.data.Dataset):
        def __len__(self):
            return COUNT

        def __getitem__(self, i):
            return data[0][i], {"labels": data[1][i], "sample_index": i}

    loader = torch.utils.data.DataLoader(
        Samples(), batch_size=BATCH, shuffle=True, num_workers=workers
    )
    joined = cache.join(loader)
    assert len(joined) == len(loader)
    check(joined, data, expected)
    one_by_one = torch.utils.data.DataLoader(
        list(batches_of(data, np.arange(COUNT))), batch_size=None
    )
    check(cache.join(one_by_one), data, expected)


@pytest.mark.skipif(BACKEND != "torch", reason="needs the PyTorch backend")
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_data_loader_of_a_stream(cache, data, expected, drop_last):
    import torch

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            for i in range(COUNT):
                yield data[0][i], {"labels": data[1][i], "sample_index": i}

    def loader(batch_size):
        return torch.utils.data.DataLoader(
            Stream(), batch_size=batch_size, drop_last=drop_last
        )

    check(cache.join(loader(10)), data, expected)
    batches = list(cache.join(loader(16)))
    assert [len(x) for x, _ in batches] == [16, 16, 8][: 3 - drop_last]


def test_the_last_operation_of_grain_s_loader(cache, data, expected):
    grain = pytest.importorskip("grain")

    class AddPredictions(grain.transforms.Map):
        def map(self, batch):
            return cache.add_to(batch)

    def loader(*more):
        return grain.DataLoader(
            data_source=[
                (x, {"labels": y, "sample_index": np.array(i)})
                for i, (x, y) in enumerate(zip(*data))
            ],
            sampler=grain.samplers.IndexSampler(
                COUNT, shuffle=True, seed=0, num_epochs=1
            ),
            operations=[grain.transforms.Batch(BATCH), *more],
            shard_options=grain.sharding.NoSharding(),
        )

    check(loader(AddPredictions()), data, expected)
    with pytest.raises(ValueError, match="last of its operations"):
        cache.join(loader())


class Column:
    """Such as pandas': `[i]` looks for the label i, not for the row."""

    def __init__(self, values, labels):
        self.values, self.labels = values, labels
        self.shape = values.shape

    def __len__(self):
        return len(self.values)

    def __getitem__(self, label):
        return self.values[self.labels[label]]

    def to_numpy(self):
        return self.values


def test_columns_of_tables_are_read_by_position(
    teacher, cache, data, expected, tmp_path
):
    labels = np.random.default_rng(5).permutation(COUNT)
    x, y = (Column(values, labels) for values in data)
    joined = cache.join(x, y, batch_size=BATCH, seed=0)
    check(map(joined.__getitem__, range(7)), data, expected)
    outputs = kd.cache.Dense("float32")
    kd.cache.write(teacher, x, tmp_path, outputs=outputs, verbose=0)
    found = kd.cache.open(tmp_path).predictions_of(np.arange(COUNT))["output"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_any_batch(cache, data, expected):
    order = np.random.default_rng(2).permutation(COUNT)
    batches = map(cache.add_to, batches_of(data, order))
    assert check(batches, data, expected) == order.tolist()


def test_a_cache_in_another_process_is_opened_anew(cache, data, expected):
    again = pickle.loads(pickle.dumps(cache))
    assert len(pickle.dumps(cache)) < 20_000
    check(map(again.add_to, batches_of(data, np.arange(COUNT))), data, expected)


def test_other_data_is_refused(cache, data):
    x, y = data
    for wrong in (x + 1, x[::-1], x.astype("float64"), x[:, :4]):
        with pytest.raises(ValueError, match="is not what the teacher.*check_"):
            cache.join(wrong, y)
    # All of these begin with the sample that the cache begins with.
    kept = np.flatnonzero(y == y[0])
    negated = np.where(np.arange(COUNT)[:, None], -x, x)
    for wrong, labels in ((x[::2], y[::2]), (x[kept], y[kept]), (negated, y)):
        np.testing.assert_array_equal(wrong[0], x[0])
        with pytest.raises(ValueError, match="is not what the teacher.*check_"):
            cache.join(wrong, labels)
    other = batches_of((x * 2, y), np.arange(COUNT))
    with pytest.raises(ValueError, match="Sample 0 is not what the teacher"):
        cache.add_to(next(other))
    unchecked = kd.cache.open(cache.name, check_inputs=False)
    unchecked.join(x * 2, y)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda a, x, y: a.join(x, y[:3]), "All arrays must have one row"),
        (lambda a, x, y: a.join(x, y, y[:3]), "All arrays must have one row"),
        (lambda a, x, y: a.join([x]), "Received: list.*add_to"),
        (lambda a, x, y: a.join(Shuffled((x, y)), seed=1), r"\['seed'\] are"),
        (lambda a, x, y: a.add_to((x, y)), "Each sample needs its index"),
        (lambda a, x, y: a.add_to((x,)), "Each sample needs its index"),
        (
            lambda a, x, y: a.read([COUNT]),
            "no predictions for sample 40",
        ),
        (lambda a, x, y: a.read([-1]), "no predictions for sample -1"),
    ],
)
def test_errors(cache, data, wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(cache, *data)


@pytest.mark.parametrize("kept", [1, 2])
def test_tf_data_without_indices(cache, data, kept):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices(data[:kept]).batch(BATCH)
    with pytest.raises(ValueError, match="Each sample needs its index"):
        cache.join(dataset)
