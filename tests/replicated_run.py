"""Trains on one replica and on two (TensorFlow); prints the differences.

Every other way inside of the strategy's scope, the rest outside of it. With
the argument `all` each way for itself.
"""

import contextlib
import sys

import device_cases


def train(strategy, case, inside):
    with strategy.scope():
        run = device_cases.made(case)
    # A chain makes its models in `fit`.
    inside = inside or case is device_cases.chain
    with strategy.scope() if inside else contextlib.nullcontext():
        return device_cases.fitted(run)


def main():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    one = tf.distribute.get_strategy()
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    cases = device_cases.QUICK + device_cases.OF_REPLICAS
    if sys.argv[1:] == ["all"]:
        cases = device_cases.CASES
    for number, case in enumerate(cases):
        device_cases.compare(
            case.__name__,
            train(one, case, False),
            train(two, case, inside=number % 2 == 0),
        )


if __name__ == "__main__":
    main()
