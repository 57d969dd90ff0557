"""Trains on one replica and on two (TensorFlow); prints the difference."""

import keras
import numpy as np
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd


def distilled():
    teacher = functional_model(8, name="teacher")
    student = functional_model(4, name="student", regularizer="l2")
    metrics = ["accuracy", kd.metrics.TeacherAgreement()]
    distiller = kd.Distiller(
        teacher,
        student,
        [
            kd.Transfer(
                kd.losses.SoftTargets(kd.schedules.Annealing(4.0, 1.0, steps=9))
            ),
            kd.Transfer(
                kd.losses.FeatureMatching(),
                teacher="stage2",
                student="stage2",
                adapter=kd.layers.FeatureAdapter(),
            ),
        ],
    )
    return distiller, metrics, [student]


def followed():
    student = functional_model(4, name="student")
    teacher = kd.teachers.MovingAverage(student, 0.5)
    distiller = kd.Distiller(
        teacher, student, [kd.Transfer(kd.losses.LogitMatching())]
    )
    return distiller, ["accuracy"], [student, teacher.model]


def mutual():
    students = {key: functional_model(4, name=f"peer_{key}") for key in "ab"}
    peers = kd.students.peers(students)
    transfers = kd.schemes.mutual_learning(peers)
    distiller = kd.SelfDistiller(peers, transfers)
    return distiller, ["accuracy"], list(students.values())


def chunked():
    models = [language_model(units) for units in (8, 4)]
    distiller = kd.schemes.causal_lm(*models, chunk_size=3)
    return distiller, [kd.metrics.Perplexity()], models[1:]


def language_model(units):
    initializer = keras.initializers.RandomNormal(stddev=1.0)
    tokens = keras.Input((8,), dtype="int32")
    x = keras.layers.Embedding(9, units, initializer, name="norm")(tokens)
    head = keras.layers.Dense(9, kernel_initializer=initializer)
    return keras.Model(tokens, head(x))


def train(strategy, make):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        distiller, metrics, models = make()
        # Replicas take the moments of their own half of a batch.
        for model in models:
            model.get_layer("norm").trainable = False
        distiller.compile(
            keras.optimizers.SGD(0.05), cross_entropy(), metrics=metrics
        )
    x, y = texts() if make is chunked else data()
    history = distiller.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0
    ).history
    variables = [v for model in models for v in model.trainable_variables]
    return history, [numpy(v) for v in variables]


def train_without_data(strategy):
    """Each replica has its own part of what one would draw."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        teacher = functional_model(8, name="teacher")
        student = functional_model(4, name="student")
        student.get_layer("norm").trainable = False
        generator = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(128),
                keras.layers.Reshape((8, 8, 2)),
            ]
        )
        distiller = kd.data_free.dfad(
            teacher, student, generator, student_steps=2, seed=0
        )
        distiller.compile(
            keras.optimizers.SGD(0.05),
            generator_optimizer=keras.optimizers.SGD(0.05),
        )
    history = distiller.fit(
        epochs=2, steps_per_epoch=2, batch_size=8, verbose=0
    ).history
    del history["class_entropy"]  # It is of each replica's part of a batch.
    variables = student.trainable_variables + generator.trainable_variables
    return history, [numpy(v) for v in variables]


def texts():
    tokens = np.random.default_rng(0).integers(9, size=(16, 9))
    return tokens[:, :-1], tokens[:, 1:]


def main():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    one = tf.distribute.get_strategy()
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for make in (distilled, followed, mutual, chunked):
        compare(train(one, make), train(two, make))
    compare(train_without_data(one), train_without_data(two))


def compare(one, two):
    for name in one[0]:
        np.testing.assert_allclose(
            one[0][name], two[0][name], rtol=1e-5, err_msg=name
        )
    for a, b in zip(one[1], two[1]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    main()
