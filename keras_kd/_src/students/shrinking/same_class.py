"""Makes a student of the teacher's own class, such as a KerasHub backbone."""

import keras

from keras_kd._src.keras_compat import Functional
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.signature import signature
from keras_kd._src.students.shrinking.weights import take_weights

# What tells how often blocks are repeated, in the names of arguments.
_COUNTS = "layer", "block", "depth", "repeat", "stack"


def own_config(model):
    """The config of a model of a class of its own, or None.

    That of a Functional or Sequential model is a list of all layers.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> own_config(model) is None
    True
    """
    if type(model) in (Functional, keras.Sequential):
        return None
    try:
        config = model.get_config()
    except NotImplementedError:
        return None
    return None if "layers" in config else config


def of_the_same_class(graph, counts, name):
    """A model of the class of a graph's model, with fewer blocks, or None.

    The arguments of the class that count its blocks are found by trial: what
    the class makes has to have the form of the graph.

    Args:
        graph: a `Graph`, with the blocks left out.
        counts: list of pairs, blocks of each run before and after.
        name: the new model's name.

    Returns:
        A model, or None where the class makes none of the form.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> of_the_same_class(Graph(model), [], "student") is None
    True
    """
    config = own_config(graph.model)
    if config is None:
        return None
    form = signature(graph)
    for change in _changes(config, counts):
        made = made_of(graph.model, {**config, **change}, name)
        if made is not None and signature(Graph(made)) == form:
            return made
    return None


def around_the_same(model, copy):
    """A model of a class of its own around the models in a copy, or None.

    Such as a KerasHub classifier, whose config holds that of its backbone.

    Args:
        model: the larger model.
        copy: a Functional model of its layers, with smaller models inside.

    Returns:
        A model of the class of `model`, with the weights of `copy`, or None
        where `copy` is one, or the class makes none of its form.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> around_the_same(model, model) is None
    True
    """
    config = own_config(model)
    if config is None or type(copy) is type(model):
        return None
    inner = {layer.name: layer for layer in copy.layers if is_model(layer)}
    change = {
        key: keras.saving.serialize_keras_object(inner[value["config"]["name"]])
        for key, value in config.items()
        if isinstance(value, dict)
        and isinstance(value.get("config"), dict)
        and value["config"].get("name") in inner
    }
    made = made_of(model, {**config, **change}, copy.name)
    graph = Graph(copy)
    if made is None or signature(Graph(made)) != signature(graph):
        return None
    hand_over(graph, made)
    return made


def made_of(model, config, name):
    """A model of the same class, or None where it does not take the config.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> made_of(model, model.get_config(), "student").name
    'student'
    """
    if "name" in config:
        config = {**config, "name": name}
    try:
        made = type(model).from_config(config)
        return made if is_model(made) else None
    except Exception:
        # Whatever the constructor raises: it does not take these numbers.
        return None


def hand_over(graph, model, *, learnt=True, done=()):
    """Gives the layers of a model the weights and flags of a graph's.

    Args:
        graph: a `Graph`.
        model: a model of its form, of equal or smaller weights.
        learnt: as in `take_weights`.
        done: ids of operations of the graph that need nothing any more.

    Example:
    >>> source = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> hand_over(Graph(source), keras.models.clone_model(source))
    """
    done = set(done)
    for old, new in zip(graph.calls, Graph(model).calls):
        layer = old.operation
        if isinstance(layer, keras.layers.Layer) and id(layer) not in done:
            done.add(id(layer))
            take_weights(layer, new.operation, learnt=learnt)
            if layer.trainable != new.operation.trainable:
                new.operation.trainable = layer.trainable


def _changes(config, counts):
    """What of a config may have to change, the likeliest first."""
    if not counts:
        return [{}]
    numbers = {}
    for before, after in counts:
        numbers.setdefault(before, set()).add(after)
    changes = {}
    fewer = [(before, after) for before, after in counts if before > after]
    for key, value in config.items():
        if type(value) is int and len(numbers.get(value, ())) == 1:
            changes[key] = next(iter(numbers[value]))
        elif isinstance(value, (list, tuple)):
            changed = _fewer(value, counts) or _fewer(value, fewer)
            if changed:
                changes[key] = changed
    likely = [key for key in changes if any(part in key for part in _COUNTS)]
    others = [key for key in changes if key not in likely]
    together = {key: changes[key] for key in likely}
    singles = [{key: changes[key]} for key in [*likely, *others]]
    return [*singles[: len(likely)], together, *singles[len(likely) :]]


def _fewer(values, counts):
    """A list of numbers of blocks after the change, or None if it is none."""
    changed, counts = [], list(counts)
    for value in values:
        # A single block is no run.
        if counts and value == counts[0][0]:
            changed.append(counts.pop(0)[1])
        elif value == 1:
            changed.append(value)
        else:
            return None
    return changed if changed and not counts else None
