"""What `write` and `plan` take as a data set."""

import keras
import numpy as np
import pytest
from support import numpy

import keras_kd as kd

COUNT, BATCH = 40, 8


@pytest.fixture(scope="module")
def x():
    random = np.random.default_rng(0)
    return random.normal(size=(COUNT, 4)).astype("float32")


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def written(teacher, dataset, path, **arguments):
    outputs = kd.cache.Dense("float32")
    settings = dict(outputs=outputs, batch_size=BATCH, verbose=0, **arguments)
    kd.cache.write(teacher, dataset, path, **settings)
    return kd.cache.open(path)


def planned(teacher, dataset, **arguments):
    return kd.cache.plan(
        teacher, dataset, epochs=3, batch_size=BATCH, verbose=0, **arguments
    )


def assert_predicted(cache, expected):
    found = cache.predictions_of(np.arange(COUNT))["output"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, order):
        super().__init__()
        self.x, self.order = x, order

    def __len__(self):
        return len(self.order) // BATCH

    def __getitem__(self, number):
        rows = self.order[number * BATCH : (number + 1) * BATCH]
        return self.x[rows], {"sample_index": rows}


def test_py_dataset(teacher, x, tmp_path):
    order = np.random.default_rng(1).permutation(COUNT)
    dataset = Batches(x, order)
    cache = written(teacher, dataset, tmp_path)
    assert_predicted(cache, numpy(teacher(x)))
    assert cache.join(dataset)[4][1]["sample_index"].tolist() == (
        order[32:].tolist()
    )
    assert planned(teacher, dataset).samples == COUNT


class File:
    """Such as a dataset of h5py: takes numbers of rows that go up."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        if not isinstance(rows, slice) and (np.diff(rows) <= 0).any():
            raise TypeError("Indexing elements must be in increasing order")
        return self.values[rows]


def test_a_file_that_is_read_in_its_order(teacher, x, tmp_path):
    y = np.arange(COUNT) % 3
    cache = written(teacher, File(x), tmp_path)
    assert_predicted(cache, numpy(teacher(x)))
    joined = cache.join(File(x), File(y), batch_size=BATCH, seed=0)
    for inputs, targets in map(joined.__getitem__, range(len(joined))):
        rows = targets["sample_index"]
        assert (np.diff(rows) < 0).any()
        np.testing.assert_array_equal(inputs, x[rows])
        np.testing.assert_array_equal(targets["labels"], y[rows])
    assert planned(teacher, File(x)).samples == COUNT


@pytest.mark.one_backend
def test_rows_of_a_file_come_in_any_order_and_twice(teacher, x, tmp_path):
    cache = written(teacher, x, tmp_path)
    rows = np.array([3, 1, 3, 0])
    joined = cache.join(File(x), File(np.arange(COUNT)), batch_size=4)
    joined.order = rows
    inputs, targets = joined[0]
    np.testing.assert_array_equal(inputs, x[rows])
    np.testing.assert_array_equal(targets["labels"], rows)


def of_two_inputs(form):
    """A teacher of the difference of its inputs, which it takes in a form."""
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    scores = keras.layers.Dense(3)(keras.layers.subtract([a, b]))
    return keras.Model(form(a, b), scores)


FORMS = {
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
    "dict": lambda a, b: {"a": a, "b": b},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_arrays_of_several_inputs(form, x, tmp_path):
    teacher, inputs = of_two_inputs(form), form(x, 3 * x[::-1])
    expected = numpy(teacher(inputs))
    cache = written(teacher, inputs, tmp_path)
    assert_predicted(cache, expected)
    assert planned(teacher, inputs).samples == COUNT
    joined = cache.join(inputs, np.zeros(COUNT), batch_size=BATCH, seed=0)
    batch, targets = joined[0]
    rows = targets["sample_index"]
    found = targets["predictions"][cache.tag]["output"]["values"]
    np.testing.assert_allclose(found, expected[rows], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numpy(teacher(batch)), found, rtol=1e-5)
    with pytest.raises(ValueError, match="is not what the teacher"):
        cache.join(form(3 * x[::-1], x))


@pytest.mark.one_backend
@pytest.mark.parametrize("call", [written, planned])
@pytest.mark.parametrize(
    "inputs, message",
    [
        (lambda x: (x, x[:, 0]), r"\(40, 4\), \(40,\).*takes \(None, 4\)"),
        (lambda x: [x], r"shapes \[\(40, 4\)\].*a dict of arrays"),
    ],
)
def test_a_list_that_the_teacher_does_not_take(
    call, inputs, message, teacher, x, tmp_path
):
    where = {"path": tmp_path / "cache"}
    with pytest.raises(ValueError, match=message):
        call(teacher, inputs(x), **where)
    assert not where["path"].exists()


@pytest.mark.one_backend
@pytest.mark.parametrize("call", [written, planned])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_inputs_of_other_lengths_or_numbers(call, form, x, tmp_path):
    where = {"path": tmp_path / "cache"}
    with pytest.raises(ValueError, match=r"one row for each.*\[32, 40\] rows"):
        call(of_two_inputs(form), form(x[:32], x), **where)
    with pytest.raises(ValueError, match="same number of inputs.*Give an"):
        call(of_two_inputs(form), [x, x, x], **where)
    assert not where["path"].exists()


@pytest.mark.one_backend
def test_a_list_for_a_teacher_that_does_not_say_what_it_takes(x, tmp_path):
    class Teacher(keras.Model):
        def call(self, inputs):
            return inputs[0] - inputs[1]

        def get_build_config(self):
            return None

    teacher = Teacher()
    teacher.built = True
    with pytest.raises(ValueError, match="takes inputs not known. Give"):
        written(teacher, [x, x], tmp_path)
