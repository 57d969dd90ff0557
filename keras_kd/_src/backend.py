"""The code of training steps that depends on the backend."""

import contextlib
import functools

import keras
import numpy as np

BACKEND = keras.backend.backend()


def no_gradient():
    """A context in which no backend records operations for a gradient."""
    if BACKEND == "torch":
        import torch

        return torch.no_grad()
    return contextlib.nullcontext()


def all_finite(values):
    """Whether all of a tensor's values are finite; a boolean tensor."""
    values = keras.ops.convert_to_tensor(values)
    if BACKEND == "torch" and values.numel():
        import torch

        # A sum would need a scaled copy here. Compilers avoid that copy, and
        # XLA's maximum can't be used, as it ignores NaN.
        return torch.isfinite(torch.stack(torch.aminmax(values.detach()))).all()
    # A sum is finite only if all its terms are. It is scaled down, as sums of
    # the lowest float, which masks classes, must not overflow.
    total = keras.ops.sum(keras.ops.cast(values, "float32") * 2.0**-64)
    return keras.ops.isfinite(total)


def state_mapping(model, *state):
    """Pairs of a model's variables and their values in a step, on JAX.

    On JAX variables are empty in a step, and their values are in its first
    argument. On other backends this is None.
    """
    if not state:
        return None
    (trainable, non_trainable, *_), *_ = state
    variables = model.trainable_variables + model.non_trainable_variables
    return list(zip(variables, [*trainable, *non_trainable]))


def update_after_step(model, results, update):
    """Calls `update` after a training step, and keeps what it assigns.

    Args:
        model: the model of the step.
        results: the results of the step: the logs, and on JAX the state.
        update: function that assigns to non-trainable variables of the model.
    """
    if BACKEND != "jax":
        update()
        return results
    logs, state = results
    mapping = state_mapping(model, state)
    with keras.StatelessScope(state_mapping=mapping) as scope:
        update()
    updated = [
        scope.get_current_value(variable)
        for variable in model.non_trainable_variables
    ]
    return logs, (state[0], updated, *state[2:])


def with_logs(results, change):
    """The results of a step, with the logs changed by a function."""
    if BACKEND != "jax":
        return change(results)
    logs, state = results
    return change(logs), state


def per_replica(loss):
    """A replica's loss times the number of replicas, as Keras divides by it."""
    return loss * replicas() if replicas() > 1 else loss


def share_of_mean(loss):
    """A replica's share of a mean over all, as Keras sums the gradients."""
    return loss / replicas() if replicas() > 1 else loss


def replicas():
    """The number of replicas that share a batch on TensorFlow; elsewhere 1."""
    if BACKEND != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _this_replica():
    """The context of a replica that has a part of a batch, or None."""
    if replicas() == 1:
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def of_all_replicas(*tensors):
    """The samples of all replicas, on TensorFlow, where each has a part.

    For state that a step keeps of the whole batch. All replicas then keep the
    same values, in variables with `aggregation="only_first_replica"`.

    Args:
        tensors: tensors with the samples on the first axis, or None.
    """
    context = _this_replica()
    if context is None:
        return tensors
    return [
        None if each is None else context.all_gather(each, axis=0)
        for each in tensors
    ]


def part_of_replica(tensor):
    """A replica's part of the samples of all replicas, in order."""
    context = _this_replica()
    if context is None:
        return tensor
    number, samples = (
        context.replica_id_in_sync_group,
        keras.ops.shape(tensor)[0],
    )
    end = (number + 1) * samples // replicas()
    return tensor[number * samples // replicas() : end]


def shared_out(batch):
    """A batch split into parts, one for each replica of a strategy.

    Keras' `predict_on_batch` would give each replica the whole batch.
    """
    if replicas() == 1:
        return batch
    import tensorflow as tf

    def part(context):
        number = context.replica_id_in_sync_group
        return keras.tree.map_structure(
            lambda all: (
                None
                if all is None
                else tf.constant(np.array_split(all, replicas())[number])
            ),
            batch,
        )

    strategy = tf.distribute.get_strategy()
    return strategy.experimental_distribute_values_from_function(part)


def drawn_for_replica(draw, size):
    """The samples of `draw(size)`, different ones for each replica.

    The replicas' random generators have the same state, so each draws the
    samples of all and takes its part.
    """
    if _this_replica() is None:
        return draw(size)
    return keras.tree.map_structure(
        lambda all: None if all is None else part_of_replica(all),
        draw(replicas() * size),
    )


def with_shared_symbol(specs):
    """`KerasTensor`s, on JAX with the same symbol for all open sizes.

    Keras makes a new symbol in each trace, so that JAX would cache, and keep,
    every trace.
    """
    size = _open_size() if BACKEND == "jax" else None
    if size is None:
        return specs
    import jax

    def converted(spec):
        if not isinstance(spec, keras.KerasTensor) or None not in spec.shape:
            return spec
        shape = [size if n is None else n for n in spec.shape]
        return jax.ShapeDtypeStruct(shape, spec.dtype)

    return keras.tree.map_structure(converted, specs)


@functools.cache
def _open_size():
    """The symbol; None in Keras 3.11, which traces with numbers instead."""
    from jax import export

    # At least 2, as in Keras, so that it is never broadcast.
    (size,) = export.symbolic_shape("size", constraints=["size>=2"])
    return size if keras.KerasTensor((size,)).shape == (None,) else None


def put_in_rows(rows, places, values):
    """Rows with values written at places, row by row.

    On JAX by `vmap`: with a scatter over rows and places, all devices would
    exchange their places and values.

    Args:
        rows: tensor of shape `(n, width)`.
        places: integers, shape `(n, k)`.
        values: tensor of shape `(n, k)`.
    """
    if BACKEND == "jax":
        import jax

        return jax.vmap(lambda row, at, put: row.at[at].set(put))(
            rows, places, values
        )
    ops, shape = keras.ops, keras.ops.shape(places)
    numbers = ops.arange(shape[0], dtype="int32")[:, None]
    pairs = ops.stack([ops.broadcast_to(numbers, shape), places], axis=-1)
    return ops.scatter_update(
        rows, ops.reshape(pairs, (-1, 2)), ops.reshape(values, (-1,))
    )


def separate_buffers(variables):
    """Gives each variable its own buffer.

    On JAX, variables share a buffer after
    `student_variable.assign(teacher_variable.value)`, but a step donates its
    buffers, and can't donate one twice.
    """
    if BACKEND != "jax":
        return
    seen = set()
    for variable in variables:
        if id(variable.value) in seen:
            variable.assign(keras.ops.copy(variable.value))
        seen.add(id(variable.value))


def kept_value(variable):
    """A variable's value, to be assigned again later; on the host if possible.

    If JAX shards it over several hosts, none has all of it, and the JAX array
    itself, which never changes, is returned.
    """
    if getattr(variable.value, "is_fully_addressable", True):
        return keras.ops.convert_to_numpy(variable)
    return variable.value


def random_states():
    """States of random generators that are not Keras variables, by name.

    On PyTorch, Keras' dropout draws from PyTorch's own generators.
    """
    if BACKEND != "torch":
        return {}
    import torch

    states = {"random_state": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda_random_state"] = torch.cuda.get_rng_state()
    return {name: state.numpy() for name, state in states.items()}


def set_random_states(states):
    """Restores the states that `random_states` returned."""
    if BACKEND != "torch":
        return
    import torch

    if "random_state" in states:
        torch.set_rng_state(torch.tensor(states["random_state"]))
    if "cuda_random_state" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(states["cuda_random_state"]))


def current_values(variables):
    """Pairs of variables and their values inside `own_step`, on JAX; else None.

    Another stateless scope inside the step needs them.
    """
    if BACKEND != "jax":
        return None
    return [(variable, variable.value) for variable in variables]


def own_step(model, state, take):
    """Runs a custom training step, and keeps what it assigns.

    Args:
        model: the model of the step.
        state: on JAX, a list with the state that the step was given, else an
            empty list.
        take: function that takes the step, with `minimize` and by assigning to
            variables of the model, and returns the logs.

    Returns:
        The value that Keras expects of `train_step`.
    """
    if not state:
        return take()
    groups = _state_groups(model)
    pairs = zip(sum(groups, []), sum(map(list, state[0]), []))
    with keras.StatelessScope(state_mapping=list(pairs)) as scope:
        logs = take()
    updated = [[scope.get_current_value(v) for v in each] for each in groups]
    return logs, tuple(updated)


def _state_groups(model):
    """The variables of a step on JAX, in Keras' groups and order."""
    return [
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    ]


def minimize(model, loss, variables, optimizer):
    """Updates variables by the gradient of a loss; inside `own_step`.

    Args:
        model: the model of the step.
        loss: function without arguments that returns the loss, and any other
            tensors.
        variables: the variables to update.
        optimizer: the optimizer.

    Returns:
        The other tensors.
    """
    gradient = {
        "jax": _jax_gradient,
        "tensorflow": _tensorflow_gradient,
        "torch": _torch_gradient,
    }[BACKEND]
    gradients, others = gradient(model, loss, variables, optimizer)
    if BACKEND == "jax":
        _apply_stateless(optimizer, gradients, variables)
    else:
        with no_gradient():
            optimizer.apply(gradients, variables)
    return others


def _apply_stateless(optimizer, gradients, variables):
    # `apply` of an optimizer that scales the loss would assign inside a branch.
    both = variables, optimizer.variables
    updated = optimizer.stateless_apply(
        [variable.value for variable in optimizer.variables],
        gradients,
        [variable.value for variable in variables],
    )
    for each, values in zip(both, updated):
        for variable, value in zip(each, values):
            variable.assign(value)


def _jax_gradient(model, loss, variables, optimizer):
    import jax

    state = {id(v): v for group in _state_groups(model) for v in group}
    for variable in variables:
        state.pop(id(variable), None)
    rest = list(state.values())
    values = current_values(rest)

    def run(trained):
        mapping = [*values, *zip(variables, trained)]
        scope = keras.StatelessScope(mapping, collect_losses=True)
        with scope:
            value, others = loss()
            value = optimizer.scale_loss(value)
        return value, (others, [scope.get_current_value(v) for v in rest])

    (_, (others, updated)), gradients = jax.value_and_grad(run, has_aux=True)(
        [variable.value for variable in variables]
    )
    for variable, value in zip(rest, updated):
        variable.assign(value)
    return gradients, others


def _tensorflow_gradient(model, loss, variables, optimizer):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value, others = loss()
        value = optimizer.scale_loss(value)
    return tape.gradient(value, variables), others


def _torch_gradient(model, loss, variables, optimizer):
    import torch

    value, others = loss()
    gradients = torch.autograd.grad(
        optimizer.scale_loss(value),
        [variable.value for variable in variables],
        allow_unused=True,
    )
    return gradients, others


def unchanged(*models):
    """A scope in which models run, and all that they write is discarded."""
    variables = [v for model in models for v in model.variables]
    return keras.StatelessScope(state_mapping=current_values(variables))


def tensorflow_copy(data):
    """A copy of a `tf.data.Dataset`; reading it doesn't change the original.

    A data set that shuffles has another order each time that it is read.
    Other data is returned as it is.
    """
    if not hasattr(data, "element_spec"):
        return data
    import tensorflow as tf

    experimental = tf.data.experimental
    try:
        graph = tf.raw_ops.DatasetToGraphV2(
            input_dataset=experimental.to_variant(data)
        )
    except tf.errors.OpError:
        return data  # Not all data sets can be copied.
    graph = tf.compat.v1.GraphDef.FromString(graph.numpy())
    for node in graph.node:
        if node.op == "ShuffleDatasetV3":
            # The copy would draw its seeds from the original's generator.
            node.op = "ShuffleDataset"
            del node.input[4:]
    variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
    return experimental.from_variant(variant, data.element_spec)


def part_gradients(variables, others, parts, compiled=True):
    """A function that computes the parts of a loss, and their gradient norms.

    Args:
        variables: the variables of the gradients.
        others: the other variables that are read.
        parts: function of a batch and of pairs of variables and their values
            (None except on JAX) that returns a list of scalars, and any other
            tensors. It runs in a scope that discards what it assigns.
        compiled: whether it may be compiled.

    Returns:
        Function of a batch that returns the parts, the norm of the gradient of
        each, and the other tensors.
    """
    run = {
        "jax": _jax_part_gradients,
        "tensorflow": _tensorflow_part_gradients,
        "torch": _torch_part_gradients,
    }[BACKEND]

    def take(trained, rest, batch):
        def in_scope(trained):
            pairs = [*zip(variables, trained), *zip(others, rest)]
            with keras.StatelessScope(pairs, collect_losses=True):
                known = pairs if BACKEND == "jax" else None
                found, more = parts(batch, known)
            return [keras.ops.cast(each, "float32") for each in found], more

        return run(in_scope, trained)

    if BACKEND == "jax" and compiled:
        import jax

        take = jax.jit(take)
    return lambda batch: take(
        [variable.value for variable in variables],
        [variable.value for variable in others],
        batch,
    )


def _jax_part_gradients(parts, trained):
    import jax

    found, pullback, more = jax.vjp(parts, trained, has_aux=True)
    norms = []
    for chosen in range(len(found)):
        unit = [
            keras.ops.ones(()) if number == chosen else keras.ops.zeros(())
            for number in range(len(found))
        ]
        norms.append(_norm(pullback(unit)[0]))
    return found, norms, more


def _tensorflow_part_gradients(parts, trained):
    import tensorflow as tf

    trained = [tf.convert_to_tensor(each) for each in trained]
    with tf.GradientTape(
        persistent=True, watch_accessed_variables=False
    ) as tape:
        tape.watch(trained)
        found, more = parts(trained)
    norms = [_norm(tape.gradient(part, trained)) for part in found]
    return found, norms, more


def _torch_part_gradients(parts, trained):
    import torch

    found, more = parts(trained)
    norms = []
    for part in found:
        gradients = []
        if part.requires_grad and trained:
            gradients = torch.autograd.grad(
                part, trained, retain_graph=True, allow_unused=True
            )
        norms.append(_norm(gradients))
    return found, norms, more


def _norm(gradients):
    """The norm of all gradients together; None counts as 0."""
    # Converted, as TensorFlow's gradients of embeddings are sparse.
    squares = [
        keras.ops.sum(
            keras.ops.square(
                keras.ops.cast(keras.ops.convert_to_tensor(each), "float32")
            )
        )
        for each in gradients
        if each is not None
    ]
    return keras.ops.sqrt(sum(squares, keras.ops.zeros(())))


def compiled_pass(function, variables, compiled=True):
    """A function of a batch as one compiled pass without gradients.

    Args:
        function: function of a batch, and of pairs of variables and their
            values (None except on JAX).
        variables: the variables that it reads.
        compiled: whether it may be compiled.
    """
    if BACKEND == "jax":
        import jax

        def run(values, batch):
            return function(batch, list(zip(variables, values)))

        run = jax.jit(run) if compiled else run
        return lambda batch: run([v.value for v in variables], batch)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda batch: function(batch, None))

    def run_without_gradients(batch):
        with no_gradient():
            return function(batch, None)

    return run_without_gradients


def process_number():
    """The number of this process among JAX's processes; 0 elsewhere."""
    if BACKEND != "jax":
        return 0
    import jax

    return jax.process_index()
