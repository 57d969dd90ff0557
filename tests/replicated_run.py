"""Trains on one replica and on two (TensorFlow); prints the difference."""

import keras
import numpy as np
import tensorflow as tf
from support import cross_entropy
from support import data
from support import functional_model
from support import numpy

import keras_kd as kd


def train(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        teacher = functional_model(8, name="teacher")
        student = functional_model(4, name="student", regularizer="l2")
        # Replicas take the moments of their own half of a batch.
        student.get_layer("norm").trainable = False
        distiller = kd.Distiller(
            teacher,
            student,
            [
                kd.Transfer(
                    kd.losses.SoftTargets(
                        kd.schedules.Annealing(4.0, 1.0, steps=9)
                    )
                ),
                kd.Transfer(
                    kd.losses.FeatureMatching(),
                    teacher="stage2",
                    student="stage2",
                    adapter=kd.layers.FeatureAdapter(),
                ),
            ],
        )
        distiller.compile(
            keras.optimizers.SGD(0.05),
            cross_entropy(),
            metrics=["accuracy", kd.metrics.TeacherAgreement()],
        )
    x, y = data()
    history = distiller.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0
    ).history
    return history, [numpy(v) for v in student.trainable_variables]


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    one, weights_of_one = train(tf.distribute.get_strategy())
    two, weights_of_two = train(
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    )
    for name in one:
        np.testing.assert_allclose(
            one[name], two[name], rtol=1e-5, err_msg=name
        )
    for a, b in zip(weights_of_one, weights_of_two):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    main()
