"""The state of a model at the end of an epoch, and how it is restored."""

import json

import keras
import numpy as np
from keras import ops

from keras_kd._src.keras_compat import all_layers
from keras_kd._src.keras_compat import saves_own_state


def optimizers(model):
    """Dict, attribute -> optimizer: the compiled one, and others."""
    found = {"optimizer": model.optimizer}
    for name, value in vars(model).items():
        if isinstance(value, keras.optimizers.Optimizer):
            known = any(value is each for each in found.values())
            found |= {} if known else {name: value}
    return {name: each for name, each in found.items() if each is not None}


def variables(model):
    """Weights, states of random layers, and the optimizers' variables."""
    found = [*model.variables]
    for optimizer in optimizers(model).values():
        found += optimizer.variables
    return list({id(variable): variable for variable in found}.values())


def configs(model):
    """Dict, attribute -> each optimizer's config."""
    return {
        name: _config(optimizer)
        for name, optimizer in optimizers(model).items()
    }


def _config(optimizer):
    try:
        saved = keras.saving.serialize_keras_object(optimizer)
    except NotImplementedError:  # The user's schedule has no `get_config`.
        return {"class": type(optimizer).__name__}
    # Through JSON, like the config that it is compared with.
    config = json.loads(json.dumps(saved["config"], default=str))
    config.pop("name", None)
    return {"class": type(optimizer).__name__, **config}


def description(model):
    """What must be the same for a state to fit a model."""
    found = {"model": [_described(each, each.name) for each in model.variables]}
    for name, optimizer in optimizers(model).items():
        # The rest of the name is the layer's, which Keras numbers anew.
        found[name] = [
            _described(each, each.name.rpartition("_")[-1])
            for each in optimizer.variables
        ]
    return {
        "backend": keras.backend.backend(),
        "class": type(model).__name__,
        "variables": found,
    }


def _described(variable, name):
    return [name, list(variable.shape), str(variable.dtype)]


def own_states(model):
    """What layers save in a `save_own_variables` of their own.

    Returns:
        Dict, number of the layer -> dict of arrays.
    """
    states = {}
    for number, layer in enumerate(all_layers(model)):
        if saves_own_state(layer):
            states[str(number)] = store = {}
            layer.save_own_variables(store)
    return {
        number: {
            key: np.asarray(ops.convert_to_numpy(value))
            for key, value in store.items()
        }
        for number, store in states.items()
    }


def set_own_states(model, states):
    """Restores what `own_states` returned."""
    for number, layer in enumerate(all_layers(model)):
        if str(number) in states:
            layer.load_own_variables(states[str(number)])


def differences(before, now):
    """Lines that name the differences between two descriptions."""
    lines = [
        f"{key}: {before[key]} in the backup, now {now[key]}"
        for key in ("backend", "class")
        if before[key] != now[key]
    ]
    parts = {**before["variables"], **now["variables"]}
    for part in parts:
        one = before["variables"].get(part, [])
        two = now["variables"].get(part, [])
        if one != two:
            lines.append(_difference(part, one, two))
    return lines


def _difference(part, one, two):
    if len(one) != len(two):
        return f"{part}: {len(one)} variables in the backup, now {len(two)}"
    first = next(pair for pair in zip(one, two) if pair[0] != pair[1])
    texts = (f"{name!r} {tuple(shape)} {dtype}" for name, shape, dtype in first)
    return f"{part}: {next(texts)} in the backup, now {next(texts)}"


def config_differences(before, saved, now):
    """Lines that name the differences between optimizers.

    A value may be the one that the run began with, or the one that it had at
    the end, as callbacks change a learning rate.
    """
    lines = []
    for name, config in now.items():
        first, last = before.get(name, {}), saved.get(name, {})
        for key in {**first, **config}:
            known = first.get(key), last.get(key)
            if config.get(key) not in known:
                lines.append(
                    f"{name}: {key} {known[0]!r} in the backup, now "
                    f"{config.get(key)!r}"
                )
    return lines
