"""CallbackGroup: several callbacks in one, called one after another."""

import keras

HOOKS = [
    "set_params",
    *(
        f"on_{when}_{end}"
        for when in ("epoch", "train", "test", "predict")
        for end in ("begin", "end")
    ),
    *(
        f"on_{what}_batch_{end}"
        for what in ("train", "test", "predict")
        for end in ("begin", "end")
    ),
]


class CallbackGroup(keras.callbacks.Callback):
    """Calls the callbacks that it was given, in their order."""

    def __init__(self, callbacks=()):
        super().__init__()
        self.callbacks = keras.tree.flatten(callbacks)
        # If no callback reads batches, Keras need not wait for their logs.
        self.async_safe = all(map(_is_async_safe, self.callbacks))

    def set_model(self, model):
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)


def _is_async_safe(callback):
    plain = keras.callbacks.Callback
    return getattr(callback, "async_safe", False) or all(
        getattr(getattr(callback, name), "__func__", None)
        is getattr(plain, name)
        for name in (
            "on_batch_end",
            "on_train_batch_end",
            "on_test_batch_end",
            "on_predict_batch_end",
        )
    )


def _forwarded(hook):
    own = getattr(keras.callbacks.Callback, hook)

    def call(self, *args, **kwargs):
        own(self, *args, **kwargs)
        for callback in self.callbacks:
            getattr(callback, hook)(*args, **kwargs)

    call.__name__ = hook
    return call


for _hook in HOOKS:
    setattr(CallbackGroup, _hook, _forwarded(_hook))
