"""Ways to distil, each small: trained on one device and on several.

Each is a function that makes a `Run`. What is compared is every variable that
training leaves: the student's and the adapters' weights, and what rules,
losses and moving averages keep.
"""

import tempfile
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from support import cross_entropy
from support import numpy

import keras_kd as kd

SAMPLES, FEATURES, CLASSES = 16, 6, 4
BATCH = 8
# A variable that is one replica's share; it is not compared.
OF_EACH = "_of_each"


class Run(NamedTuple):
    """Something that is fitted, its data, and whose variables are compared."""

    distiller: Any
    data: tuple
    parts: list


class Host:
    """Which of the processes this is; the others wait for it at `wait`."""

    number, count, folder = 0, 1, None

    def wait():
        """Returns once all have come here."""


def local(data):
    """This host's rows of each batch."""
    parts = np.arange(SAMPLES).reshape(-1, Host.count, BATCH // Host.count)
    rows = parts[:, Host.number].reshape(-1)
    return keras.tree.map_structure(lambda each: each[rows], data)


def dense(units, name, **options):
    """A model of two layers, whose second has one path on all devices."""
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(units, "tanh", name=f"{name}_hidden", **options)
    head = keras.layers.Dense(CLASSES, name=f"{name}_head", **options)
    return keras.Model(inputs, head(hidden(inputs)), name=name)


def models():
    student = dense(4, "student", kernel_regularizer="l2")
    return dense(8, "teacher"), student


def arrays():
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, FEATURES)).astype("float32")
    return x, random.integers(CLASSES, size=SAMPLES)


def indexed():
    x, y = arrays()
    return local((x, {"labels": y, "sample_index": np.arange(SAMPLES)}))


def compiled(distiller, data=None, parts=(), metrics=("accuracy",)):
    distiller.compile(**settings(metrics))
    data = local(arrays()) if data is None else data
    return Run(distiller, data, [distiller, *parts])


def settings(metrics=("accuracy",)):
    return {
        "optimizer": keras.optimizers.SGD(0.05),
        "loss": cross_entropy(),
        "metrics": list(metrics),
    }


def of_transfers(*transfers, data=None):
    return compiled(kd.Distiller(*models(), list(transfers)), data)


def at_hidden(loss, **options):
    return kd.Transfer(
        loss, teacher="teacher_hidden", student="student_hidden", **options
    )


def soft_targets():
    annealed = kd.schedules.Annealing(4.0, 1.0, steps=3)
    distiller = kd.Distiller(
        *models(), [kd.Transfer(kd.losses.SoftTargets(annealed))]
    )
    metrics = "accuracy", kd.metrics.TeacherAgreement()
    return compiled(distiller, metrics=metrics)


def without_data():
    """What a generator makes, with a memory."""
    latents = keras.Input((3,))
    hidden = keras.layers.Dense(8, "tanh", name="generator_hidden")(latents)
    made = keras.layers.Dense(FEATURES, name="generator_head")(hidden)
    distiller = kd.data_free.dfad(
        *models(),
        keras.Model(latents, made),
        student_steps=2,
        memory_size=SAMPLES,
        replay=4,
        seed=0,
    )
    sgd = keras.optimizers.SGD
    distiller.compile(sgd(0.1), generator_optimizer=sgd(0.1))
    return Run(distiller, (), [distiller])


def features_with_adapters():
    return of_transfers(
        at_hidden(
            kd.losses.FeatureMatching(), adapter=kd.layers.FeatureAdapter()
        ),
        at_hidden(
            kd.losses.VariationalInformation(),
            adapter=kd.layers.VariationalRegressor(),
        ),
    )


def moving_average():
    _, student = models()
    teacher = kd.teachers.MovingAverage(student, 0.5)
    distiller = kd.Distiller(teacher, student, kd.losses.LogitMatching())
    return compiled(distiller, parts=[teacher.model])


def mutual_learning():
    students = {key: dense(4, f"peer_{key}") for key in "ab"}
    peers = kd.students.peers(students)
    return compiled(kd.SelfDistiller(peers, kd.schemes.mutual_learning(peers)))


def contrastive_memory():
    loss = kd.losses.ContrastiveMemory(SAMPLES, 5, num_negatives=7, seed=0)
    return of_transfers(
        at_hidden(
            loss,
            adapter=keras.layers.Dense(5),
            teacher_adapter=keras.layers.Dense(5),
        ),
        data=indexed(),
    )


def past_predictions():
    _, student = models()
    loss = kd.losses.PastPredictions(SAMPLES, CLASSES)
    return compiled(kd.SelfDistiller(student, [kd.Transfer(loss)]), indexed())


class MeanLogits(kd.rules.Rule):
    """A rule of one's own that keeps sums, as `Rule` says."""

    def build(self, shape):
        self.sum, self.count, self.mean = (
            self.add_weight(
                shape=shape[1:],
                initializer="zeros",
                trainable=False,
                aggregation="mean",
                name=name,
            )
            for name in (f"sum{OF_EACH}", f"count{OF_EACH}", "mean")
        )

    def update_state(self, inputs):
        logits = inputs.teacher_logits
        ones = keras.ops.ones_like(logits)
        self.sum.assign_add(keras.ops.sum(logits, axis=0))
        self.count.assign_add(keras.ops.sum(ones, axis=0))
        self.mean.assign(self.sum / self.count)


def rules_with_state():
    # None is so unusual that it is dropped: replicas have means of their own.
    rules = [
        MeanLogits(),
        kd.rules.DropUnusual(deviations=1e3),
        kd.rules.DropAtRandom(0.5, seed=1),
        kd.rules.LearnedTemperature(reversal=1.0),
    ]
    return of_transfers(kd.Transfer(kd.losses.SoftTargets(), rules=rules))


def shrunk():
    layers = [
        keras.layers.Dense(FEATURES, "tanh", name=f"shrunk_{name}")
        for name in "abcd"
    ]
    head = keras.layers.Dense(CLASSES, name="shrunk_head")
    teacher = keras.Sequential([keras.Input((FEATURES,)), *layers, head])
    student, transfers = kd.students.shrink(teacher, depth=0.5)
    return compiled(kd.Distiller(teacher, student, transfers))


def language_model(units, name):
    # Logits of 0 or so would have a divergence of nothing but rounding.
    initializer = keras.initializers.RandomNormal(stddev=1.0)
    tokens = keras.Input((6,), dtype="int32")
    embedding = keras.layers.Embedding(
        9, units, initializer, name=f"{name}_embedding"
    )
    head = keras.layers.Dense(
        10, kernel_initializer=initializer, name=f"{name}_head"
    )
    return keras.Model(tokens, head(embedding(tokens)), name=name)


def chunked_head():
    pair = language_model(8, "teacher"), language_model(4, "student")
    distiller = kd.schemes.causal_lm(*pair, chunk_size=4)
    tokens = np.random.default_rng(0).integers(9, size=(SAMPLES, 7))
    data = local((tokens[:, :-1], tokens[:, 1:]))
    return compiled(distiller, data, metrics=[kd.metrics.Perplexity()])


def mixed_precision():
    teacher = dense(8, "teacher", dtype="mixed_bfloat16")
    student = dense(4, "student", dtype="mixed_bfloat16")
    return compiled(kd.Distiller(teacher, student))


def quantized():
    _, student = models()
    student = kd.quantization.QuantizationAwareModel(
        student, arrays()[0], ranges="moving_average"
    )
    return compiled(kd.Distiller(dense(8, "teacher"), student))


def cached():
    """The teacher's predictions, written by two, joined."""
    teacher, student = models()
    folder = Host.folder or tempfile.mkdtemp()
    x, _ = arrays()
    for part in range(2):
        if Host.number == part or Host.count == 1:
            write_part(teacher, x, folder, part)
    Host.wait()
    if Host.number == 0:
        kd.cache.merge(folder, samples=SAMPLES)
    Host.wait()
    cache = kd.cache.open(folder, teacher=teacher)
    x, targets = indexed()
    data = cache.join(
        x,
        targets["labels"],
        sample_index=targets["sample_index"],
        batch_size=BATCH // Host.count,
    )
    return compiled(kd.Distiller(cache, student), (data,))


def chain():
    """A teacher, an assistant and a student."""
    teacher, _ = models()
    stages = [
        kd.schemes.Stage(
            name,
            lambda name=name, units=units: dense(units, name),
            epochs=1,
            compile=settings,
        )
        for name, units in (("assistant", 6), ("student", 4))
    ]
    chain = kd.schemes.Chain(teacher, stages, folder=tempfile.mkdtemp(), seed=0)
    return Run(chain, local(arrays()), [])


def write_part(teacher, x, folder, part):
    """What one of two writers has: every other batch, the last one short."""
    numbers = [range(3 * part, 3 * part + 3), range(6 + part, SAMPLES, 2)]
    batches = [(x[list(i)], {"sample_index": np.array(i)}) for i in numbers]
    kd.cache.write(
        teacher,
        iter(batches),
        folder,
        part=str(part),
        outputs=kd.cache.Dense("float32"),
        verbose=0,
    )


CASES = (
    soft_targets,
    features_with_adapters,
    moving_average,
    mutual_learning,
    contrastive_memory,
    past_predictions,
    rules_with_state,
    shrunk,
    chunked_head,
    mixed_precision,
    quantized,
    cached,
    chain,
    without_data,
)


def fitted(run):
    """The logs of two epochs, and all variables afterwards."""
    arguments = {"shuffle": False, "verbose": 0}
    if len(run.data) > 1:
        arguments["batch_size"] = BATCH // Host.count
    if isinstance(run.distiller, kd.schemes.Chain):
        run.distiller.fit(*run.data, **arguments)
        return {}, values_of([run.distiller.student])
    if not run.data:
        arguments = {"verbose": 0, "batch_size": BATCH, "steps_per_epoch": 2}
    fitted = run.distiller.fit(*run.data, epochs=2, **arguments)
    return fitted.history, values_of(run.parts)


def made(case):
    """The `Run` of a case, with its seeds."""
    keras.utils.set_random_seed(0)
    return case()


def values_of(parts):
    """All variables, by part and number."""
    return {
        f"{number}/{place} {variable.path}": numpy(variable)
        for number, part in enumerate(parts)
        for place, variable in enumerate(part.variables)
        if OF_EACH not in variable.path
    }


def compare(name, one, several):
    """Raises unless logs and variables are alike; prints the difference."""
    # In half precision the order of a sum shows.
    tolerance = 2e-2 if "mixed_precision" in name else 1e-5
    difference = 0.0
    one[0].pop("class_entropy", None)  # Of each replica's part of a batch.
    for key, value in one[0].items():
        np.testing.assert_allclose(
            several[0][key],
            value,
            rtol=2 * tolerance,
            atol=tolerance / 10,
            err_msg=f"{name}: {key}",
        )
    assert len(one[1]) == len(several[1])
    for key, other in zip(one[1], several[1].values()):
        value = one[1][key]
        np.testing.assert_allclose(
            other,
            value,
            rtol=tolerance,
            atol=tolerance,
            err_msg=f"{name}: {key}",
        )
        if value.size:
            difference = max(difference, float(np.abs(other - value).max()))
    print(f"{name}: largest difference of a variable {difference:.1e}")
