"""All that is private in Keras and used here: one small function for each.

Nothing else in the project touches a private name of Keras; a test greps for
them. Each function says why the public names don't do.
"""

# Masks travel beside tensors, which can't hold attributes on JAX. Some versions
# of Keras have these in `keras.src.backend` as well.
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask

# What `keras.Model(inputs, outputs)` makes; Keras exports no name for it.
from keras.src.models.functional import Functional

__all__ = [
    "FLASH_ATTENTION",
    "Functional",
    "additional_losses",
    "all_layers",
    "get_keras_mask",
    "is_symbolic",
    "producer",
    "set_keras_mask",
    "sublayers",
]

# While it is True, attention layers fuse, and keep no scores to read.
FLASH_ATTENTION = "_flash_attention"


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


def additional_losses(model):
    """The values of `add_loss` and of regularizers, as `fit` adds them up.

    TensorFlow scales them by the number of replicas.
    """
    return [model._aggregate_additional_loss(loss) for loss in model.losses]
