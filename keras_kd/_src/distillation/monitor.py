"""What the Distiller looks after between steps of `fit`."""

import warnings

import keras


class Monitor(keras.callbacks.Callback):
    """Reads what the steps counted; logs the hyperparameters that move.

    The `Distiller` adds it to each `fit`. It looks after the first batch and
    after each epoch, not after each batch: on JAX each look brings the whole
    training state back to the model.

    Data with a `set_epoch` is told the epoch: the order and the views of a run
    that is resumed are then those of one that was not interrupted. Where
    `steps_per_epoch` is less than all of the data, Keras goes on in the next
    epoch with what is left, so the data's own epoch takes several of `fit`.

    Example:
    >>> callbacks = [Monitor()]  # what `Distiller.fit` adds to the user's
    """

    def __init__(self, data=None, steps_per_epoch=None):
        super().__init__()
        self.data, self.steps_per_epoch = data, steps_per_epoch

    def on_train_begin(self, logs=None):
        self._first_batch_seen = False

    def on_epoch_begin(self, epoch, logs=None):
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(epoch // self._epochs_of_all_data())
        for transfer in self.model.transfers:
            transfer.inspection.reset()

    def _epochs_of_all_data(self):
        batches = getattr(self.data, "num_batches", None)
        # Several workers begin anew with each epoch.
        anew = getattr(self.data, "workers", 1) > 1
        if anew or not (self.steps_per_epoch and batches):
            return 1
        at_once = self.model.steps_per_execution
        steps = -(-self.steps_per_epoch // at_once) * at_once
        return -(-batches // steps)

    def on_train_batch_begin(self, batch, logs=None):
        if batch > 0 and not self._first_batch_seen:
            self._look_at_first_batch()

    def on_epoch_end(self, epoch, logs=None):
        if not self._first_batch_seen:
            self._look_at_first_batch()
        self.model.check_answers()
        for key, hyperparameter in self.model.hyperparameters().items():
            if hyperparameter.moves and logs is not None:
                logs[key] = hyperparameter.number

    def _look_at_first_batch(self):
        self._first_batch_seen = True
        distiller = self.model
        distiller.check_answers()
        for transfer in distiller.transfers:
            warn_of_probabilities(transfer)
        distiller.look_for_probabilities = False


def warn_of_probabilities(transfer):
    """Warns if the first batch looked softmaxed where logits are expected."""
    _, *sides = transfer.inspection.read()
    for side, count in zip(("teacher", "student"), sides):
        argument = f"{side}_from_logits"
        if count and getattr(transfer.loss, argument, True):
            say_so = (
                f"pass `{argument}=False` to it"
                if hasattr(transfer.loss, argument)
                else "use the model without its last activation"
            )
            warnings.warn(
                f"The {side}'s outputs in transfer {transfer.name!r} look like "
                "probabilities: of the first samples all are between 0 and 1, "
                f"and each row sums to 1. {type(transfer.loss).__name__} "
                f"expects logits. If they went through a softmax, {say_so}.",
                stacklevel=2,
            )


def check_answers(teacher, transfer):
    """Raises a `ValueError` if the teacher gave values that aren't finite."""
    count, *_ = transfer.inspection.read()
    if count:
        taps = ", ".join(tap.text or "output" for tap in transfer.teacher_taps)
        raise ValueError(
            f"The teacher {teacher.name!r} answered with values that are not "
            f"finite. Received: NaN or infinity in {count} batches, at {taps} "
            f"(transfer {transfer.name!r}). Look at its weights and its input "
            "scaling; a float16 teacher may overflow: run it in float32 or "
            "bfloat16."
        )


class Monitored:
    """The part of the `Distiller` that looks around each run of steps.

    Example:
    >>> import keras_kd as kd
    >>> issubclass(kd.Distiller, Monitored)
    True
    """

    def fit(self, x=None, *args, callbacks=None, **kwargs):
        self._prepare()
        monitor = Monitor(x, kwargs.get("steps_per_epoch"))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            monitor.set_model(self)
            callbacks.append(monitor)
        else:
            given = keras.tree.flatten(callbacks) if callbacks else []
            callbacks = [monitor, *given]
        with self.usable_after_errors():
            return super().fit(x, *args, callbacks=callbacks, **kwargs)

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras takes a batch from the iterator. All that a `PyDataset`'s
        # workers have prepared by then would come once more later, in the
        # place of other samples.
        adapter = getattr(iterator, "data_adapter", None)
        if getattr(adapter, "enqueuer", None):
            data_batch = adapter._standardize_batch(adapter.py_dataset[0])
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def evaluate(self, *args, **kwargs):
        self._prepare()
        with self.usable_after_errors():
            results = super().evaluate(*args, **kwargs)
        self.check_answers()
        return results

    def train_on_batch(self, *args, **kwargs):
        self._prepare()
        with self.usable_after_errors():
            results = super().train_on_batch(*args, **kwargs)
        self.check_answers()
        return results

    def test_on_batch(self, *args, **kwargs):
        with self.usable_after_errors():
            return super().test_on_batch(*args, **kwargs)

    def check_answers(self):
        """Raises a `ValueError` if the teacher's values aren't finite."""
        for transfer in self.transfers:
            check_answers(self.teacher, transfer)
