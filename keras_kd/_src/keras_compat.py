"""The private names of Keras that this package uses: one function for each.

No other module uses a private name of Keras; a test searches for them. Each
docstring gives the reason why the name is needed.
"""

import contextlib
import functools
import inspect

import keras

# Masks are kept apart from tensors, which have no attributes on JAX. Some
# versions of Keras have these in `keras.src.backend` as well.
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask

# The class that `keras.Model(inputs, outputs)` makes; Keras doesn't export it.
from keras.src.models.functional import Functional

# The generator of `keras.random` where no seed is given.
from keras.src.random.seed_generator import global_seed_generator

# Keras calls it only for labels in a single array.
from keras.src.trainers.data_adapters.data_adapter_utils import (
    class_weight_to_sample_weights,
)

__all__ = [
    "FLASH_ATTENTION",
    "Functional",
    "MASK",
    "Model",
    "additional_losses",
    "all_layers",
    "begin_with_epoch",
    "another_compiled_loss",
    "as_in_keras",
    "change_metrics",
    "class_weight_map",
    "class_weight_to_sample_weights",
    "compiled_loss",
    "compiled_metrics",
    "forget_compiled_loss",
    "get_keras_mask",
    "global_seed_generator",
    "is_symbolic",
    "knows_loss",
    "made_non_trainable",
    "makes_weights",
    "other_moments",
    "overrides",
    "own_metrics",
    "producer",
    "saves_own_state",
    "set_keras_mask",
    "student_loss",
    "sublayers",
    "tensor_index",
    "untrack",
    "usable_after_errors",
    "was_called",
    "weight_attribute",
    "without_fused_attention",
]

# The attribute of a tensor that holds its mask, where it can have attributes.
MASK = "_keras_mask"
# If True, attention layers use fused attention, and keep no scores to read.
FLASH_ATTENTION = "_flash_attention"
# The function by which KerasHub's attention layers, each module by this name,
# decide whether to use fused attention; there is no argument for it.
FUSED_ATTENTION = "fused_attention_op_available"


def class_weight_map(class_weight):
    """Keras' map function for class weights in a `tf.data.Dataset`."""
    from keras.src.trainers.data_adapters import tf_dataset_adapter

    return tf_dataset_adapter.make_class_weight_map_fn(class_weight)


def all_layers(model):
    """A model's layers at any depth, including itself.

    Layers that are not models have no `layers`, and `_layers` has only the
    first level.
    """
    return model._flatten_layers()


def sublayers(layer):
    """The layers directly in a layer, whether or not it is a model."""
    return layer._flatten_layers(include_self=False, recursive=False)


def makes_weights(layer):
    """Whether a layer makes weights when it is built: it has a `build`.

    Comparing it with Keras' `build` can't show this, as Keras wraps the method
    of each class.
    """
    return not getattr(layer.build, "_is_default", False)


def made_non_trainable(layer):
    """A layer's own weights that were created as non-trainable.

    `non_trainable_weights` also has frozen weights, and those of sublayers.
    """
    return list(layer._non_trainable_variables)


@contextlib.contextmanager
def other_moments(layers, moments):
    """Makes layers of batch normalization use other moments in a pass.

    On PyTorch Keras can't compute them over several processes.

    Args:
        layers: the layers.
        moments: function of a layer's own `moments(inputs, mask)`, its inputs
            and its mask that returns a mean and a variance.
    """
    for layer in layers:
        own = functools.partial(moments, layer._moments)
        object.__setattr__(layer, "_moments", own)
    try:
        yield
    finally:
        for layer in layers:
            object.__delattr__(layer, "_moments")


def was_called(layer):
    """Whether a layer was called, also symbolically.

    `built` does not show it, as it may be set without a call.
    """
    return layer._called


def is_symbolic(tensor):
    """Whether a tensor is part of a Functional model."""
    return hasattr(tensor, "_keras_history")


def producer(tensor):
    """The operation that returned a symbolic tensor, and the node of its call.

    No public name gives access to a Functional model's graph.
    """
    operation, index, _ = tensor._keras_history
    return operation, operation._inbound_nodes[index]


def tensor_index(tensor):
    """Which of its operation's outputs a symbolic tensor is."""
    return tensor._keras_history[2]


def additional_losses(model, parts):
    """The values of `add_loss` and of regularizers, as `fit` adds them up.

    TensorFlow scales them by the number of replicas.
    """
    losses = [loss for part in parts for loss in part.losses]
    return [model._aggregate_additional_loss(loss) for loss in losses]


def compiled_loss(model):
    """The compiled form of `compile(loss=...)`, called on a batch; or None.

    `compute_loss` returns only its sum with all other losses, but each part is
    logged here.
    """
    return model._compile_loss


def compiled_metrics(model):
    """The compiled form of `compile(metrics=...)`, called on a batch; or None.

    `compute_metrics` can update it only with all predictions at once.
    """
    return model._compile_metrics


def overrides(model, method):
    """Whether a model overrides a method of `keras.Model`."""
    return getattr(type(model), method) is not getattr(keras.Model, method)


def student_loss(student, compiled, x, y, y_pred, sample_weight, training):
    """The result of a model's own `compute_loss` for a batch.

    Args:
        student: the model.
        compiled: the compiled loss of another model, used in place of the
            student's in this call; None for the student's own.
        x: the inputs.
        y: the labels.
        y_pred: the student's predictions.
        sample_weight: the weights.
        training: whether it is a training step.
    """
    own = student._compile_loss
    object.__setattr__(student, "_compile_loss", compiled or own)
    try:
        # Not `compute_loss`: overrides for Keras before 3.3 lack `training`.
        return student._compute_loss(x, y, y_pred, sample_weight, training)
    finally:
        object.__setattr__(student, "_compile_loss", own)


def saves_own_state(layer):
    """Whether a layer may save more than its variables.

    Layers of Keras and KerasHub with their own way of saving don't.
    """
    module = type(layer).save_own_variables.__module__
    of_variables = "keras.src.layers.", "keras.src.models.", "keras_hub."
    return not module.startswith(of_variables)


def begin_with_epoch(model, epoch):
    """Sets the first epoch of a `fit` about to begin; None for its argument.

    A callback has no other way to set it, and Keras keeps it for each `fit`
    that follows.
    """
    model._initial_epoch = epoch


def knows_loss(model):
    """Whether a model's compiled loss, if any, has created its metrics."""
    loss = model._compile_loss
    return loss is None or loss.built


def own_metrics(student, compiled):
    """The metrics that a model keeps, and those of its own compiled loss.

    `metrics` of a model inside another leaves them out, and that of a model
    alone contains its loss tracker.
    """
    metrics = list(student._metrics)
    if compiled is None and student._compile_loss is not None:
        metrics += student._compile_loss.metrics
    return metrics


def change_metrics(model, change):
    """Changes the argument of `compile(metrics=...)` before its first use."""
    own = model._compile_metrics
    if own is not None and not own.built:
        model._compile_metrics = type(own)(
            change(own._user_metrics),
            change(own._user_weighted_metrics),
            output_names=own.output_names,
        )


def forget_compiled_loss(model):
    """Removes the compiled loss, which Keras keeps on `compile(loss=None)`."""
    model._compile_loss = None


def as_in_keras(method):
    """Gives a method with keyword arguments the signature it has in Keras.

    The signature differs between versions, and users may pass arguments by
    position.
    """
    of_keras = getattr(keras.Model, method.__name__)
    signature = inspect.signature(of_keras)

    @functools.wraps(of_keras)
    def call(self, *args, **kwargs):
        arguments = signature.bind(self, *args, **kwargs).arguments
        arguments.pop("self")
        arguments |= arguments.pop("kwargs", {})
        return method(self, **arguments)

    return call


class Model(keras.Model):
    """`keras.Model` that can be built with data, with four faults fixed."""

    # Whether `meet_data` is to be called with the first batch of the data.
    awaits_data = False

    def meet_data(self, batch):
        """Builds what depends on the data; called before the first step."""

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras takes a batch from the iterator. All batches that a
        # `PyDataset`'s workers have prepared by then would be repeated later,
        # in place of other samples.
        adapter = getattr(iterator, "data_adapter", None)
        dataset = getattr(adapter, "py_dataset", None)
        if not getattr(dataset, "holds_samples", True):
            return  # The step generates the samples; all is built already.
        if self.awaits_data or getattr(adapter, "enqueuer", None):
            data_batch = self._first_batch(adapter, data_batch)
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def _first_batch(self, adapter, data_batch):
        """The first batch of the data; builds the model if it needs it."""
        if getattr(adapter, "enqueuer", None):
            data_batch = adapter._standardize_batch(adapter.py_dataset[0])
        elif data_batch is None:
            # Of Grain's data it is no iterator yet.
            data_batch = next(iter(adapter.get_numpy_iterator()))
        if self.awaits_data:
            self.meet_data(data_batch)
        return data_batch

    if keras.backend.backend() == "tensorflow":

        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            # Without a strategy, Keras builds everything during the trace.
            if self.awaits_data and self._distribute_strategy is None:
                adapter = getattr(iterator, "data_adapter", None)
                self._first_batch(adapter, data_batch)
            super()._maybe_symbolic_build(iterator, data_batch)

    if keras.backend.backend() == "jax":

        def _get_jax_state(self, **wanted):
            # `purge_model_variables` empties the model, and Keras keeps the
            # values to restore only after the first step: if that step raises
            # an error, the model would stay empty.
            state = super()._get_jax_state(**wanted)
            if wanted.pop("purge_model_variables", False):
                names = [name for name in wanted if wanted[name]]
                self._jax_state = dict(zip(names, state))
            return state

    if keras.backend.backend() == "torch":

        def compile(self, *args, **kwargs):
            super().compile(*args, **kwargs)
            if self._compile_loss is not None:
                _keep_weights(self._compile_loss)

        def zero_grad(self, set_to_none=True):
            # Keras registers parameters by path: of two variables with one
            # path PyTorch knows only one, and never resets the other's
            # gradient.
            for variable in self.trainable_variables:
                variable.value.grad = None


def _keep_weights(loss):
    """Protects the sample weights from a loss on PyTorch.

    Keras' losses multiply them by their mask (`ignore_class`) in place, and
    all that follows would use the changed weights.
    """
    own = loss.call
    loss.call = lambda y, y_pred, sample_weight=None: own(
        y, y_pred, _copied(sample_weight)
    )


@contextlib.contextmanager
def another_compiled_loss(model):
    """Replaces a model's compiled loss by a new one like it; yields that.

    The original creates metrics when it is first called, and how `fit` begins
    depends on whether it has.
    """
    own = model._compile_loss
    loss = own and type(own)(
        own._user_loss,
        own._user_loss_weights,
        output_names=own.output_names,
    )
    if loss and keras.backend.backend() == "torch":
        _keep_weights(loss)
    object.__setattr__(model, "_compile_loss", loss)
    try:
        yield loss
    finally:
        object.__setattr__(model, "_compile_loss", own)


def _copied(tensors):
    return keras.tree.map_structure(
        lambda each: None if each is None else keras.ops.copy(each), tensors
    )


def untrack(layer, part):
    """Makes a layer stop tracking a part that was replaced.

    Keras stops tracking parts that leave a list, but not replaced attributes.
    """
    layer._tracker.untrack(part)


@contextlib.contextmanager
def usable_after_errors(model):
    """Leaves a model usable if a batch raises an error in `fit` and its like.

    On JAX its variables get their values back, unless a step fails while it
    runs, as the step has taken over their memory. On TensorFlow a step that was
    traced halfway is discarded.
    """
    jax = keras.backend.backend() == "jax"
    if jax:
        model.jax_state_sync()
        model._jax_state = None  # Kept from earlier steps.
    try:
        yield
    except BaseException:
        if not jax:
            model.train_function = model.test_function = None
        raise
    finally:
        if jax:
            model.jax_state_sync()


@contextlib.contextmanager
def without_fused_attention(layer):
    """Makes an attention layer of KerasHub compute scores in the block."""
    namespaces = {
        id(method.__globals__): method.__globals__
        for kind in type(layer).__mro__
        for method in vars(kind).values()
        if FUSED_ATTENTION in getattr(method, "__globals__", ())
    }
    kept = {key: each[FUSED_ATTENTION] for key, each in namespaces.items()}
    for namespace in namespaces.values():
        namespace[FUSED_ATTENTION] = lambda: False
    try:
        yield
    finally:
        for key, namespace in namespaces.items():
            namespace[FUSED_ATTENTION] = kept[key]


def weight_attribute(layer, name):
    """The name of the attribute in which a layer keeps a weight.

    In some layers the weight's own name is a property, which can't be replaced.
    """
    return f"_{name}" if f"_{name}" in vars(layer) else name
