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


def of_transfers(*transfers):
    metrics = "accuracy", kd.metrics.TeacherAgreement()
    distiller = kd.Distiller(*models(), list(transfers))
    return compiled(distiller, indexed(), metrics=metrics)


def at_hidden(loss, **options):
    return kd.Transfer(
        loss, teacher="teacher_hidden", student="student_hidden", **options
    )


def annealed():
    annealed = kd.schedules.Annealing(4.0, 1.0, steps=3)
    return kd.Transfer(kd.losses.SoftTargets(annealed))


def soft_targets():
    return of_transfers(annealed())


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


def adapted():
    return [
        at_hidden(
            kd.losses.FeatureMatching(), adapter=kd.layers.FeatureAdapter()
        ),
        at_hidden(
            kd.losses.VariationalInformation(),
            adapter=kd.layers.VariationalRegressor(),
        ),
    ]


def features_with_adapters():
    return of_transfers(*adapted())


def moving_average():
    _, student = models()
    teacher = kd.teachers.MovingAverage(student, 0.5)
    distiller = kd.Distiller(teacher, student, kd.losses.LogitMatching())
    return compiled(distiller, parts=[teacher.model])


def mutual_learning(*others):
    students = {key: dense(4, f"peer_{key}") for key in "ab"}
    peers = kd.students.peers(students)
    transfers = [*kd.schemes.mutual_learning(peers), *others]
    return compiled(kd.SelfDistiller(peers, transfers), indexed())


def past_predictions():
    loss = kd.losses.PastPredictions(SAMPLES, CLASSES)
    return compiled(
        kd.SelfDistiller(models()[1], [kd.Transfer(loss)]), indexed()
    )


def self_taught():
    """Both in one."""
    loss = kd.losses.PastPredictions(SAMPLES, CLASSES)
    return mutual_learning(kd.Transfer(loss, teacher="[a]", student="[a]"))


def remembered():
    loss = kd.losses.ContrastiveMemory(SAMPLES, 5, num_negatives=7, seed=0)
    return at_hidden(
        loss,
        adapter=keras.layers.Dense(5),
        teacher_adapter=keras.layers.Dense(5),
        weight=0.1,
    )


def contrastive_memory():
    return of_transfers(remembered())


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


def ruled():
    # None is so unusual that it is dropped: replicas have means of their own.
    rules = [
        MeanLogits(),
        kd.rules.DropUnusual(deviations=1e3),
        kd.rules.DropAtRandom(0.5, seed=1),
        kd.rules.LearnedTemperature(reversal=1.0),
    ]
    return kd.Transfer(kd.losses.SoftTargets(), rules=rules, name="ruled")


def rules_with_state():
    return of_transfers(ruled())


def together():
    """Many transfers in one, to compile once."""
    return of_transfers(annealed(), *adapted(), remembered(), ruled())


def stack():
    layers = [
        keras.layers.Dense(FEATURES, "tanh", name=f"shrunk_{name}")
        for name in "abcd"
    ]
    head = keras.layers.Dense(CLASSES, name="shrunk_head")
    return keras.Sequential([keras.Input((FEATURES,)), *layers, head])


def shrunk():
    teacher = stack()
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


def live():
    """The same with the teacher itself."""
    return compiled(kd.Distiller(*models()), indexed())


def chain():
    """A teacher, an assistant made from it, and a student."""
    teacher = stack()

    def transfers(teachers):
        return kd.students.shrink(teachers[0], depth=0.5)[1]

    def assistant():
        return kd.students.shrink(teacher, depth=0.5)[0]

    common = {"epochs": 1, "compile": settings}
    stages = [
        kd.schemes.Stage("middle", assistant, transfers=transfers, **common),
        kd.schemes.Stage("small", lambda: dense(4, "student"), **common),
    ]
    folder = tempfile.mkdtemp()
    chain = kd.schemes.Chain(teacher, stages, folder=folder, seed=0)
    return Run(chain, local(arrays()), [])


def write_part(teacher, x, folder, part):
    """What one of two writers has, of batches that devices can't share."""
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


# The first are what the rest is, in fewer compilations.
QUICK = (
    together,
    self_taught,
    moving_average,
    chunked_head,
    mixed_precision,
    cached,
    chain,
)
OF_REPLICAS = quantized, without_data
CASES = (
    soft_targets,
    features_with_adapters,
    contrastive_memory,
    rules_with_state,
    mutual_learning,
    past_predictions,
    shrunk,
    *QUICK[2:],
    *OF_REPLICAS,
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
            rtol=10 * tolerance,
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
