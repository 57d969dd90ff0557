"""Labels, checked: what the losses and rules that read them share."""

from keras import ops


def true_class(labels, logits):
    """Where the true class is, as booleans of the logits' shape; -1 is none."""
    if isinstance(labels, dict):
        raise ValueError(
            "The labels must be one set for all outputs, as a loss or rule "
            "that reads them can't choose. Received: a dict of labels, with "
            f"the keys {sorted(labels)}. Give `fit` one array."
        )
    labels = ops.convert_to_tensor(labels)
    rank = len(logits.shape)
    if len(labels.shape) == rank and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) >= rank:
        raise ValueError(
            "The labels must be class numbers, one a sample. Received: labels "
            f"of shape {tuple(labels.shape)} for logits of shape "
            f"{tuple(logits.shape)}. Turn one-hot labels into numbers with "
            "`keras.ops.argmax(labels, axis=-1)`."
        )
    labels = ops.cast(labels, "int32")
    while len(labels.shape) < rank:
        labels = ops.expand_dims(labels, axis=-1)
    return ops.equal(labels, ops.arange(logits.shape[-1], dtype="int32"))


def one_per_sample(numbers, name):
    """Labels or sample indices as int32 of shape `(batch,)`."""
    numbers = ops.convert_to_tensor(numbers)
    if len(numbers.shape) == 2 and numbers.shape[-1] == 1:
        numbers = ops.squeeze(numbers, axis=-1)
    if len(numbers.shape) != 1:
        raise ValueError(
            f"`{name}` must be integers, one a sample. Received: {name} "
            f"of shape {tuple(numbers.shape)}. Turn one-hot labels into "
            "numbers with `keras.ops.argmax(labels, axis=-1)`."
        )
    return ops.cast(numbers, "int32")
