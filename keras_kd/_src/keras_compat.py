"""All that is private in Keras and used here: one small function for each.

Nothing else in the project touches a private name of Keras; a test greps for
them. Each function says why the public names don't do.
"""

import contextlib

import keras

# Masks travel beside tensors, which can't hold attributes on JAX. Some versions
# of Keras have these in `keras.src.backend` as well.
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask

# What `keras.Model(inputs, outputs)` makes; Keras exports no name for it.
from keras.src.models.functional import Functional

# Keras calls it on labels that are one array only.
from keras.src.trainers.data_adapters.data_adapter_utils import (
    class_weight_to_sample_weights,
)

__all__ = [
    "FLASH_ATTENTION",
    "Functional",
    "Model",
    "additional_losses",
    "all_layers",
    "class_weight_map",
    "class_weight_to_sample_weights",
    "compiled_loss",
    "forget_compiled_loss",
    "get_keras_mask",
    "is_symbolic",
    "producer",
    "set_keras_mask",
    "sublayers",
    "tensor_index",
    "untrack",
    "usable_after_errors",
]

# While it is True, attention layers fuse, and keep no scores to read.
FLASH_ATTENTION = "_flash_attention"


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


def additional_losses(model):
    """The values of `add_loss` and of regularizers, as `fit` adds them up.

    TensorFlow scales them by the number of replicas.
    """
    return [model._aggregate_additional_loss(loss) for loss in model.losses]


def compiled_loss(model):
    """What `compile(loss=...)` became, which is called on a batch; or None.

    `compute_loss` gives its sum with all other losses only, and each part is
    to be logged.
    """
    return model._compile_loss


def forget_compiled_loss(model):
    """Makes `compile(loss=None)` mean it: Keras would keep an earlier loss."""
    model._compile_loss = None


class Model(keras.Model):
    """`keras.Model`, with three faults fixed for those who override."""

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras takes a batch from the iterator. All that a `PyDataset`'s
        # workers have prepared by then would come once more later, in the
        # place of other samples.
        adapter = getattr(iterator, "data_adapter", None)
        if getattr(adapter, "enqueuer", None):
            data_batch = adapter._standardize_batch(adapter.py_dataset[0])
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

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

        def zero_grad(self, set_to_none=True):
            # Keras holds parameters by path: of two variables of one path
            # PyTorch knows one, and would let the other's gradients pile up.
            for variable in self.trainable_variables:
                variable.value.grad = None


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
