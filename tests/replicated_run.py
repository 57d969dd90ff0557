"""Trains on one replica and on two (TensorFlow); prints the differences.

Half of the ways inside of the strategy's scope, the others outside of it.
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
    for number, case in enumerate(device_cases.CASES):
        if sys.argv[1:] and case.__name__ not in sys.argv[1:]:
            continue
        device_cases.compare(
            case.__name__,
            train(one, case, False),
            train(two, case, inside=number % 2 == 0),
        )


if __name__ == "__main__":
    main()
