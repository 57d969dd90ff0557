"""All that is private in Keras and used here: one small function for each.

Nothing else in the project touches a private name of Keras; a test greps for
them. Each docstring gives the reason why.
"""

import contextlib
import functools
import inspect

import keras

# Masks travel beside tensors, which can't hold attributes on JAX. Some versions
# of Keras have these in `keras.src.backend` as well.
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask

# What `keras.Model(inputs, outputs)` makes; Keras exports no name for it.
from keras.src.models.functional import Functional

# What draws for `keras.random` where no seed is given.
from keras.src.random.seed_generator import global_seed_generator

# Keras calls it on labels that are one array only.
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
# While it is True, attention layers fuse, and keep no scores to read.
FLASH_ATTENTION = "_flash_attention"
# What KerasHub's attention layers ask, each module by this name, before they
# fuse; there is no argument for it.
FUSED_ATTENTION = "fused_attention_op_available"


def class_weight_map(class_weight):
    """What Keras maps a `tf.data.Dataset` of `(x, y)` by for class weights."""
    from keras.src.trainers.data_adapters import tf_dataset_adapter

    return tf_dataset_adapter.make_class_weight_map_fn(class_weight)


def all_layers(model):
    """A model's layers at any depth, itself included.

    `layers` is missing from layers that are no models, and `_layers` alone
    does not descend.
    """
    return model._flatten_layers()


def sublayers(layer):
    """The layers that a layer holds itself, whether or not it is a model."""
    return layer._flatten_layers(include_self=False, recursive=False)


def makes_weights(layer):
    """Whether a layer makes weights when it is built: it has a `build`.

    Comparing methods can't show that one inherits Keras' own, as Keras wraps
    each class's.
    """
    return not getattr(layer.build, "_is_default", False)


def made_non_trainable(layer):
    """A layer's own weights that were made to be none of the trained ones.

    `non_trainable_weights` also has those that are frozen, and of sublayers.
    """
    return list(layer._non_trainable_variables)


@contextlib.contextmanager
def other_moments(layers, moments):
    """Has layers of batch normalization take other moments in a pass.

    On PyTorch Keras can't take those of several processes.

    Args:
        layers: the layers.
        moments: function of a layer's own `moments(inputs, mask)`, of its
            inputs and its mask; returns a mean and a variance.
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
    """Whether a layer was called, on data or on symbols; `built` may be set."""
    return layer._called


def is_symbolic(tensor):
    """Whether a tensor was made by a call in a Functional model."""
    return hasattr(tensor, "_keras_history")


def producer(tensor):
    """The operation that made a symbolic tensor, and the node of that call.

    A Functional model's graph can't be walked by public names.
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
    """What `compile(loss=...)` became, which is called on a batch; or None.

    `compute_loss` gives its sum with all other losses only, and each part is
    to be logged.
    """
    return model._compile_loss


def compiled_metrics(model):
    """What `compile(metrics=...)` became, which is given a batch; or None.

    `compute_metrics` updates it with all predictions at once only.
    """
    return model._compile_metrics


def overrides(model, method):
    """Whether a model has a method of its own in the place of Keras'."""
    return getattr(type(model), method) is not getattr(keras.Model, method)


def student_loss(student, compiled, x, y, y_pred, sample_weight, training):
    """What a model's own `compute_loss` makes of a batch.

    Args:
        student: the model.
        compiled: what another model's `compile(loss=...)` became; in the call
            it is the student's own. None: the student's own compiled loss.
        x: the inputs.
        y: the labels.
        y_pred: what the student predicts.
        sample_weight: the weights.
        training: whether it is a training step.
    """
    own = student._compile_loss
    object.__setattr__(student, "_compile_loss", compiled or own)
    try:
        # Not `compute_loss`: one of before Keras 3.3 takes no `training`.
        return student._compute_loss(x, y, y_pred, sample_weight, training)
    finally:
        object.__setattr__(student, "_compile_loss", own)


def saves_own_state(layer):
    """Whether a layer saves more than its variables, as far as can be seen.

    Layers of Keras and KerasHub that save in their own way save no more.
    """
    module = type(layer).save_own_variables.__module__
    of_variables = "keras.src.layers.", "keras.src.models.", "keras_hub."
    return not module.startswith(of_variables)


def begin_with_epoch(model, epoch):
    """Has a `fit` that is about to begin begin with an epoch; None: as given.

    A callback has no other way to say it, and Keras keeps it for each `fit`
    that follows.
    """
    model._initial_epoch = epoch


def knows_loss(model):
    """Whether a model's compiled loss has made its metrics, if there is one."""
    loss = model._compile_loss
    return loss is None or loss.built


def own_metrics(student, compiled):
    """The metrics that a model keeps, and those of its own compiled loss.

    `metrics` leaves them out for a model in another one, and for one alone
    has its loss tracker among them.
    """
    metrics = list(student._metrics)
    if compiled is None and student._compile_loss is not None:
        metrics += student._compile_loss.metrics
    return metrics


def change_metrics(model, change):
    """Changes what `compile(metrics=...)` was given, before it is used."""
    own = model._compile_metrics
    if own is not None and not own.built:
        model._compile_metrics = type(own)(
            change(own._user_metrics),
            change(own._user_weighted_metrics),
            output_names=own.output_names,
        )


def forget_compiled_loss(model):
    """Makes `compile(loss=None)` mean it: Keras would keep an earlier loss."""
    model._compile_loss = None


def as_in_keras(method):
    """Gives a method that takes names only the signature it has in Keras.

    It differs between versions, and anyone may pass arguments by position.
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
    """`keras.Model` that can meet its data, with four faults fixed."""

    # Whether `meet_data` is to be called with the first batch of the data.
    awaits_data = False

    def meet_data(self, batch):
        """Builds what depends on the data; called before the first step."""

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras takes a batch from the iterator. All that a `PyDataset`'s
        # workers have prepared by then would come once more later, in the
        # place of other samples.
        adapter = getattr(iterator, "data_adapter", None)
        dataset = getattr(adapter, "py_dataset", None)
        if not getattr(dataset, "holds_samples", True):
            return  # The step makes them; all is built already.
        if self.awaits_data or getattr(adapter, "enqueuer", None):
            data_batch = self._first_batch(adapter, data_batch)
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def _first_batch(self, adapter, data_batch):
        """The first batch of the data, shown to the model if it awaits it."""
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
            # Without a strategy, Keras leaves all building to the trace.
            if self.awaits_data and self._distribute_strategy is None:
                adapter = getattr(iterator, "data_adapter", None)
                self._first_batch(adapter, data_batch)
            super()._maybe_symbolic_build(iterator, data_batch)

    if keras.backend.backend() == "jax":

        def _get_jax_state(self, **wanted):
            # `purge_model_variables` empties the model, and Keras notes what
            # goes back into it after the first step only: a step that refuses
            # its batch would leave the model empty.
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
            # Keras holds parameters by path: of two variables of one path
            # PyTorch knows one, and would let the other's gradients pile up.
            for variable in self.trainable_variables:
                variable.value.grad = None


def _keep_weights(loss):
    """Leaves weights as they are on PyTorch.

    Keras' losses multiply those that they are given by their mask
    (`ignore_class`), in place: what follows would have those.
    """
    own = loss.call
    loss.call = lambda y, y_pred, sample_weight=None: own(
        y, y_pred, _copied(sample_weight)
    )


@contextlib.contextmanager
def another_compiled_loss(model):
    """Gives a model a new compiled loss like its own meanwhile; yields it.

    Keras' own makes metrics when it is called first, and how `fit` begins
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
    """Makes a layer forget a part that it holds no more.

    Keras forgets what leaves a list, and no attribute that is set anew.
    """
    layer._tracker.untrack(part)


@contextlib.contextmanager
def usable_after_errors(model):
    """Leaves a model usable if a batch is refused in `fit` and its like.

    On JAX its variables get their values back, unless a step fails while it
    runs: it was given the values' memory. On TensorFlow a step that was traced
    by half is dropped.
    """
    jax = keras.backend.backend() == "jax"
    if jax:
        model.jax_state_sync()
        model._jax_state = None  # What was noted of earlier steps.
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
    """Has an attention layer of KerasHub make its scores while it runs."""
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
    """Where a layer keeps the weight that it is run with.

    Some layers have a property of that name, which can't be replaced.
    """
    return f"_{name}" if f"_{name}" in vars(layer) else name
