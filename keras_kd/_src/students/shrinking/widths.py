"""What of a layer's config is a width, and what becomes of it."""

import math

import keras

from keras_kd._src.students.shrinking.signature import config_of

# The arguments of Keras' layers, and of others that follow their names, that
# say how many channels they make.
_MADE = "units", "filters", "output_dim"
# Widths inside of a layer, such as those of KerasHub's.
_HIDDEN = "intermediate_dim", "mlp_dim", "feedforward_dim"
# Widths that are those of what a layer is given, such as of `LayerScale`.
_FOLLOWING = ("projection_dim",)
_WRAPPED = "layer", "forward_layer", "backward_layer"


class Narrower:
    """Makes widths smaller.

    Args:
        width: the share that stays, in (0, 1].
        multiple: what new widths are multiples of, if they are that large.

    Example:
    >>> narrower = Narrower(0.5, 8)
    >>> [narrower(size) for size in (64, 40, 10, 1)]
    [32, 24, 5, 1]
    """

    def __init__(self, width, multiple):
        self.width, self.multiple = width, multiple

    def __call__(self, size):
        exact = size * self.width
        unit = self.multiple if exact >= self.multiple else 1
        return min(size, max(unit, unit * int(exact / unit + 0.5)))

    def heads(self, number):
        return max(1, int(number * self.width + 0.5))


def makes_width(operation):
    """Whether a layer's config says how many channels it makes.

    Example:
    >>> makes_width(keras.layers.Dense(4)), makes_width(keras.layers.ReLU())
    (True, False)
    """
    if not isinstance(operation, keras.layers.Layer):
        return False
    try:
        return _has_width(config_of(operation))
    except ValueError:
        return False


def _has_width(config):
    if _has_output_shape(config):
        return True
    inner = [config[key]["config"] for key in _WRAPPED if config.get(key)]
    return any(type(config.get(key)) is int for key in _MADE) or any(
        _has_width(each) for each in inner
    )


def _has_output_shape(config):
    """Whether a layer's `output_shape` ends in its width.

    So it is in attention, and in an `EinsumDense` that makes one axis, the
    last.
    """
    if "num_heads" in config or "num_query_heads" in config:
        return bool(config.get("output_shape"))
    equation = config.get("equation")
    if not isinstance(equation, str) or "->" not in equation:
        return False
    given, made = equation.replace(".", "").split("->")
    given = given.split(",")[0]
    return [letter for letter in made if letter not in given] == [made[-1]]


def narrow(config, narrower, *, is_bound, before, after):
    """The config of a layer in the narrower model.

    Args:
        config: the layer's, of the wider model.
        narrower: a `Narrower`.
        is_bound: whether the layer must go on making as many channels.
        before: shape of its first input in the wider model.
        after: the same in the narrower model.

    Returns:
        A dict.

    Example:
    >>> config = keras.layers.Dense(64).get_config()
    >>> shape = (None, 4)
    >>> narrow(
    ...     config, Narrower(0.5, 8), is_bound=False, before=shape, after=shape
    ... )["units"]
    32
    """
    config = dict(config)
    for key in (*_HIDDEN, *(() if is_bound else _MADE)):
        if type(config.get(key)) is int:
            config[key] = narrower(config[key])
    for key in _WRAPPED:
        if isinstance(config.get(key), dict):
            inner = narrow(
                config[key]["config"],
                narrower,
                is_bound=is_bound,
                before=before,
                after=after,
            )
            config[key] = {**config[key], "config": inner}
    if not is_bound and _has_output_shape(config):
        *axes, made = keras.tree.flatten(config["output_shape"])
        config["output_shape"] = [*axes, narrower(made)]
    for key in _FOLLOWING:
        known = type(config.get(key)) is int
        if known and before and config[key] == before[-1]:
            config[key] = after[-1]
    config.update(_heads(config, narrower, before, after))
    config.update(_groups(config, after))
    return config


def fewer_heads(config, narrower):
    """The numbers of attention heads in a config, made smaller.

    Example:
    >>> config = {"num_query_heads": 9, "num_key_value_heads": 3}
    >>> fewer_heads(config, Narrower(0.5, 8))
    {'num_query_heads': 6, 'num_key_value_heads': 2}
    """
    if type(config.get("num_heads")) is int:
        return {"num_heads": narrower.heads(config["num_heads"])}
    queries = config.get("num_query_heads")
    keys = config.get("num_key_value_heads")
    if type(queries) is not int or type(keys) is not int:
        return {}
    fewer = narrower.heads(keys)
    # As many queries share a key as before.
    return {
        "num_query_heads": queries // keys * fewer,
        "num_key_value_heads": fewer,
    }


def _heads(config, narrower, before, after):
    """Fewer heads of the same size."""
    if "key_dim" in config or "head_dim" in config:
        return fewer_heads(config, narrower)
    if type(config.get("num_heads")) is int and before and after:
        # The size of a head follows from the input's width.
        exact = config["num_heads"] * after[-1], before[-1]
        if after[-1] != before[-1] and exact[0] % exact[1] == 0:
            return {"num_heads": exact[0] // exact[1]}
    return {}


def _groups(config, after):
    """As many groups as divide the channels that there are."""
    groups = config.get("groups")
    if type(groups) is not int or groups < 2 or not after:
        return {}
    first = config.get("data_format") == "channels_first"
    axis = config.get("axis", 1 if first else -1)
    made = config.get("filters", 0)
    return {"groups": math.gcd(groups, after[axis] or 0, made)}
