"""Trains in one process and in two that are joined (PyTorch).

Each case is trained alone first, then by both; its largest difference is
printed. Then comes what two processes refuse.
"""

import os
import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
from keras import layers
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd

SAMPLES = 25  # The last batch has one, and the second process none of it.


def two_models(**arguments):
    teacher = functional_model(8, name="teacher")
    return teacher, functional_model(4, name="student", **arguments)


def soft_targets():
    """Weights that differ between the rows of both processes."""
    distiller = kd.Distiller(*two_models(regularizer="l2"))
    weights = np.linspace(0.0, 3.0, SAMPLES).astype("float32")
    agreement = kd.metrics.TeacherAgreement()
    compiled = {"metrics": [agreement], "weighted_metrics": ["accuracy"]}
    return distiller, {"sample_weight": weights, "compiled": compiled}


def class_weights():
    return kd.Distiller(*two_models()), {"class_weight": {0: 1, 1: 2, 2: 9}}


def features():
    """A stateful adapter, activity that is regularized, and relations."""
    adapter = keras.Sequential(
        [layers.Conv2D(16, 1), layers.BatchNormalization()]
    )
    teacher, student = two_models()
    student.get_layer("stage1").activity_regularizer = keras.regularizers.L2(
        0.1
    )
    transfers = [
        kd.Transfer(
            kd.losses.FeatureMatching(),
            teacher="stage2",
            student="stage2",
            adapter=adapter,
        ),
        kd.Transfer(
            kd.losses.RelationalDistance(), teacher="pool", student="pool"
        ),
    ]
    # Of each batch one process has a row more.
    return kd.Distiller(teacher, student, transfers), {"batch_size": 11}


def moving_average():
    student = functional_model(4, name="student")
    teacher = kd.teachers.MovingAverage(student, 0.5)
    return kd.Distiller(teacher, student, kd.losses.LogitMatching()), {}


def mutual():
    students = {key: functional_model(4, name=f"peer_{key}") for key in "ab"}
    peers = kd.students.peers(students)
    transfers = kd.schemes.mutual_learning(peers)
    return kd.SelfDistiller(peers, transfers), {}


def memories():
    """A row a sample, in the order of a `PyDataset`."""
    distiller = kd.Distiller(
        *two_models(),
        kd.Transfer(
            kd.losses.ContrastiveMemory(SAMPLES, 8, num_negatives=5, seed=0),
            teacher="pool",
            student="pool",
            adapter=layers.Dense(8),
            teacher_adapter=layers.Dense(8),
        ),
    )
    return distiller, {
        "x": Indexed(),
        "y": None,
        "batch_size": None,
        "validation_data": Indexed(),
        "compiled": {"metrics": None},
    }


class Indexed(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        x, y = (array[rows] for array in data(SAMPLES))
        return x, {"labels": y, "sample_index": np.arange(SAMPLES)[rows]}


def rules():
    rule = kd.rules.DropUnusual(1.0, soft=True, momentum=0.5)
    temperature = kd.rules.LearnedTemperature(0.1)
    loss = kd.losses.SoftTargets()
    transfer = kd.Transfer(loss, rules=[rule, temperature])
    return kd.Distiller(*two_models(), transfer), {}


def chunks():
    models = [language_model(units) for units in (8, 4)]
    distiller = kd.schemes.causal_lm(*models, chunk_size=3)
    tokens = np.random.default_rng(0).integers(9, size=(SAMPLES, 9))
    weights = np.random.default_rng(1).random((SAMPLES, 8)) > 0.3
    return distiller, {
        "x": tokens[:, :-1],
        "y": tokens[:, 1:],
        "sample_weight": weights.astype("float32"),
        "validation_data": (tokens[:, :-1], tokens[:, 1:]),
        "compiled": {"metrics": [kd.metrics.Perplexity()]},
    }


def language_model(units):
    normal = keras.initializers.RandomNormal(stddev=1.0)
    tokens = keras.Input((8,), dtype="int32")
    x = layers.Embedding(9, units, normal)(tokens)
    head = layers.Dense(9, kernel_initializer=normal)
    return keras.Model(tokens, head(x))


def without_data():
    teacher, student = two_models()
    generator = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(128),
            layers.BatchNormalization(),
            layers.Reshape((8, 8, 2)),
        ]
    )
    distiller = kd.data_free.dfad(
        teacher, student, generator, student_steps=2, seed=0
    )
    optimizer = keras.optimizers.SGD(0.05)
    return distiller, {
        "x": None,
        "y": None,
        "steps_per_epoch": 2,
        "compiled": {"loss": None, "generator_optimizer": optimizer},
    }


def loader():
    """PyTorch's own data, shuffled by PyTorch's random state."""
    return kd.Distiller(*two_models()), {
        "x": torch_loader(shuffle=True),
        "y": None,
        "batch_size": None,
    }


def torch_loader(samples=SAMPLES, batch_size=8, **arguments):
    import torch

    tensors = [torch.tensor(array[:samples]) for array in data(SAMPLES)]
    dataset = torch.utils.data.TensorDataset(*tensors)
    return torch.utils.data.DataLoader(dataset, batch_size, **arguments)


def split():
    """A loader that gives each process its own half."""
    import torch.distributed as dist
    from torch.utils.data import DistributedSampler

    samples = 24
    if not dist.is_initialized():
        data = torch_loader(samples)
    else:
        dataset = torch_loader(samples).dataset
        sampler = DistributedSampler(dataset, shuffle=False)
        data = torch_loader(samples, 4, sampler=sampler)
    return kd.Distiller(*two_models()), {
        "x": data,
        "y": None,
        "batch_size": None,
        "validation_data": data,
    }


def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    return kd.Distiller(*two_models()), {}


CASES = (
    soft_targets,
    class_weights,
    features,
    moving_average,
    mutual,
    memories,
    rules,
    chunks,
    without_data,
    loader,
    split,
    mixed_precision,
)


def train(case, **changes):
    """The logs, and the values of all that was trained or kept."""
    keras.utils.set_random_seed(0)
    distiller, arguments = case()
    arguments |= changes
    compiled = {"loss": cross_entropy(), "metrics": ["accuracy"]}
    compiled |= arguments.pop("compiled", {})
    distiller.compile(keras.optimizers.SGD(0.05), **compiled)
    x, y = data(SAMPLES)
    defaults = {"x": x, "y": y, "batch_size": 8, "validation_data": (x, y)}
    arguments = {**defaults, "epochs": 2, "verbose": 0, **arguments}
    history = distiller.fit(**arguments).history
    keras.config.set_dtype_policy("float32")
    variables = distiller.variables
    if case is moving_average:
        variables = variables + distiller.teacher.model.variables
    return history, dict(enumerate(map(numpy, variables)))


def difference(alone, both):
    """The largest of all values' differences; of large values, relative."""
    found = 0.0
    for one, two in zip(alone, both):
        assert one.keys() == two.keys()
        for key, value in one.items():
            value = np.asarray(value, float)
            apart = np.abs(value - np.asarray(two[key]))
            apart = apart / np.maximum(1.0, np.abs(value))
            found = max(found, float(apart.max(initial=0.0)))
    return found


def begins_with_the_weights_of_the_first(rank, folder):
    """Whatever seed the others have; and `evaluate` gives all the same."""
    x, y = data(SAMPLES)

    def result(seed):
        keras.utils.set_random_seed(0)
        teacher = functional_model(8, name="teacher")
        keras.utils.set_random_seed(seed)
        student = functional_model(4, name="student")
        distiller = kd.Distiller(teacher, student)
        distiller.compile("adam", cross_entropy(), metrics=["accuracy"])
        found = [distiller.evaluate(x, y, verbose=0)]
        distiller.fit(x, y, batch_size=8, verbose=0)
        found += [distiller.train_on_batch(x[:9], y[:9])]
        found += [distiller.test_on_batch(x[:9], y[:9])]
        return [*found, *map(numpy, distiller.variables)]

    for one, two in zip(result(0), result(rank)):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


class Noise(layers.Layer):
    """Adds what two kinds of generators draw, and remembers it."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x, training=None):
        if not training:
            return x
        own = keras.random.normal(x.shape, seed=self.seed)
        mask = keras.random.dropout(keras.ops.ones_like(x), 0.5)
        self.drawn = numpy(own), numpy(mask)
        return x + own * mask


def draws_other_numbers_in_each(rank, folder):
    import torch
    import torch.distributed as dist

    noise = Noise()
    inputs = keras.Input((4,))
    student = keras.Model(inputs, layers.Dense(3)(noise(inputs)))
    teacher = keras.Sequential([inputs, layers.Dense(3)])
    distiller = kd.Distiller(teacher, student)
    distiller.compile("sgd", loss=None)
    earlier = 0.0
    for _ in range(2):
        distiller.train_on_batch(np.ones((8, 4), "float32"))
        found = [None, None]
        dist.all_gather_object(found, noise.drawn)
        for one, two in zip(*found):
            assert np.mean(one == two) < 0.9
        assert (noise.drawn[0] != earlier).any()
        earlier = noise.drawn[0]
        states = [torch.get_rng_state(), numpy(noise.seed.state.value)]
        dist.all_gather_object(found, states)
        assert all((one == two).all() for one, two in zip(*found))
    assert numpy(noise.seed.state.value).tolist() == [1, 2]


def writes_by_the_first_and_stops_alike(rank, folder):
    class Late(keras.callbacks.Callback):
        """Stops one process; a time limit would do the same."""

        def on_epoch_end(self, epoch, logs=None):
            self.epochs = epoch + 1
            self.model.stop_training |= rank == 1 and epoch == 1

    late, own = Late(), folder / f"of_{rank}"
    callbacks = [
        late,
        keras.callbacks.ModelCheckpoint(own / "best.keras", "val_loss"),
        keras.callbacks.CSVLogger(folder / f"log_{rank}.csv"),
        keras.callbacks.EarlyStopping("val_loss", restore_best_weights=True),
    ]
    train(soft_targets, epochs=5, callbacks=callbacks)
    assert late.epochs == 2
    callbacks = [late, keras.callbacks.EarlyStopping("loss", mode="max")]
    train(soft_targets, epochs=5, callbacks=callbacks[1:])
    distiller, _ = soft_targets()
    distiller.save(folder / f"saved_{rank}.keras")
    distiller.save_weights(folder / f"saved_{rank}.weights.h5")
    written = [own / "best.keras", folder / f"log_{rank}.csv"]
    written += folder.glob(f"saved_{rank}.*")
    assert len(written) == (4 if rank == 0 else 2)
    assert [path.exists() for path in written] == [rank == 0] * len(written)


def refuses(message, **changes):
    case = changes.pop("case", soft_targets)
    with pytest.raises(ValueError, match=message):
        train(case, sample_weight=None, **changes)


def refuses_what_would_be_wrong(rank, folder):
    from torch.utils.data import DistributedSampler

    x, y = data(SAMPLES)
    whole = {"y": None, "batch_size": None, "validation_data": None}
    refuses("read the same batches", x=x + rank)
    refuses("at the end of its batches", x=torch_loader(24 - 8 * rank), **whole)
    refuses("different epochs", initial_epoch=rank)
    refuses("without `torch.compile`", compiled={"jit_compile": True})
    backup = keras.callbacks.BackupAndRestore(folder / "backup")
    refuses("EpochBackup", callbacks=[backup])
    dataset = torch_loader(25).dataset
    sampler = DistributedSampler(dataset, shuffle=False)
    loader = torch_loader(25, 4, sampler=sampler)
    refuses("gives 26 samples of 25", validation_data=loader)
    sampler = DistributedSampler(dataset, num_replicas=3, rank=rank)
    loader = torch_loader(25, 4, sampler=sampler)
    refuses("num_replicas=3", x=loader, **whole)
    keras.utils.set_random_seed(rank)
    distiller = kd.Distiller(*two_models())
    distiller.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="not the same in all processes"):
        distiller.fit(x, y, verbose=0)
    teacher = keras.Sequential([keras.Input((4,)), Constant()])
    student = keras.Sequential([keras.Input((4,)), Constant()])
    distiller = kd.Distiller(teacher, student, kd.losses.LogitMatching())
    distiller.compile("sgd", loss=None)
    with pytest.raises(ValueError, match=r"shape \(3,\) for 4 samples"):
        distiller.fit(np.ones((8, 4)), verbose=0)


def shares_a_teacher_that_no_process_holds(rank, folder):
    """Its parts of the weights are neither gathered nor copied."""
    import torch
    from torch.distributed.fsdp import fully_shard

    def trained(shard):
        keras.utils.set_random_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)
        )
        if shard:
            fully_shard(module)
        teacher = kd.teachers.TorchModule(module)
        student = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
        distiller = kd.Distiller(teacher, student)
        distiller.compile("sgd", loss=None)
        x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
        distiller.fit(x, batch_size=4, verbose=0)
        if shard:
            distiller.save_weights(folder / f"sharded_{rank}.weights.h5")
        return student.get_weights(), teacher.fingerprint()

    (alone, one), (shared, two) = trained(False), trained(True)
    for a, b in zip(alone, shared):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert (one == two).all()


class Constant(layers.Layer):
    """Its output has no row for each sample."""

    def build(self, shape):
        self.value = self.add_weight(shape=(3,))

    def call(self, x):
        return self.value


CHECKS = (
    begins_with_the_weights_of_the_first,
    draws_other_numbers_in_each,
    writes_by_the_first_and_stops_alike,
    shares_a_teacher_that_no_process_holds,
    refuses_what_would_be_wrong,
)


def joined(rank, port, folder):
    import torch

    torch.set_num_threads(1)
    alone = {case: train(case) for case in CASES}
    environment = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with mock.patch.dict(os.environ, environment):
        with pytest.raises(ValueError, match="a student of its own"):
            train(soft_targets)
        kd.distribution.initialize()
    for case in CASES:
        apart = difference(alone[case], train(case))
        limit = 2e-3 if case is mixed_precision else 2e-5
        print(f"{case.__name__:20} {apart:.1e}")
        assert apart < limit, case.__name__
    for check in CHECKS:
        check(rank, pathlib.Path(folder))
        print(check.__name__)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
