"""TorchModule: any PyTorch module as the teacher, on the PyTorch backend."""

import contextlib
import difflib
import itertools

import keras
from keras import ops

from keras_kd._src.backend import BACKEND
from keras_kd._src.distillation.batch import Batch
from keras_kd._src.distillation.batch import Predictions
from keras_kd._src.fingerprint import digest
from keras_kd._src.fingerprint import is_sharded
from keras_kd._src.teachers.foreign import ForeignTeacher
from keras_kd._src.teachers.structures import call_with
from keras_kd._src.teachers.structures import check_call


class TorchModule(ForeignTeacher):
    """A teacher that is a `torch.nn.Module`, on the PyTorch backend.

    For a model of Hugging Face, timm, or your own. It runs in the training
    step, on the same device, and is compiled with it if Keras compiles:

        teacher = TorchModule(bert, output=lambda o: o.logits)
        distiller = Distiller(teacher, student)

    It runs in evaluation mode and without a gradient; its own mode and
    `requires_grad` are not changed. Its fingerprint is computed from its
    `state_dict`, and it is never saved with a distiller.

    If a batch's inputs are a dict they become keyword arguments, if a list
    positional ones. If the student's inputs have other names or another order
    of axes, convert them with `preprocess`:

        preprocess=lambda x: {"input_ids": x["token_ids"]}
        preprocess=lambda images: images.movedim(-1, 1)

    Taps are the paths of submodules, written with "/" or ".":
    `"encoder/layer/0"`, `"encoder.layer.0:input"`. If a submodule returns a
    tuple, add the position: `"encoder/layer/0[0]"`. If the output is a dict, or
    one of Hugging Face's outputs, a tap names the entry: `"[logits]"`. Feature
    maps have their channels first: to put them last, use `Transfer(...,
    teacher_adapter=Permute((2, 3, 1)))` with `keras.layers.Permute`.

    Args:
        module: a `torch.nn.Module` on the device that Keras uses.
        output: function from the module's result to the teacher's output, a
            tensor, or a dict or list of them; by default the result as it is.
        preprocess: function of tensors, from the batch's inputs to the
            module's.
        version: text that identifies `preprocess`, and changes with it, such
            as `"2024-05"`.
        name: the teacher's name; by default that of the module's class.

    Raises:
        ValueError: the backend is not PyTorch; `module` is not a module, is on
            another device, or takes other inputs; a tap names no submodule, or
            one that does not run.

    Example:
    >>> import keras_kd as kd
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> if keras.backend.backend() == "torch":
    ...     import torch
    ...     teacher = TorchModule(torch.nn.Linear(4, 3))
    ...     distiller = kd.Distiller(teacher, student)
    """

    def __init__(
        self, module, output=None, *, preprocess=None, version=None, name=None
    ):
        _check_module(module)
        super().__init__(name or type(module).__name__, preprocess, version)
        self.module = module
        self.output = output
        self._check_device()

    @property
    def sharded(self):
        # Not from the parameters, which may be whole during and after a pass.
        return is_sharded(self.module.state_dict().values())

    def describe(self):
        count = sum(each.numel() for each in self.module.parameters())
        kind = type(self.module).__name__
        return f"{self.name} (TorchModule of {kind}, {count:,} weights)"

    # --- one batch ----------------------------------------------------------

    def predictions(self, batch, taps, state_mapping=None, training=True):
        import torch

        inputs = self.prepared(_tensors(batch.inputs))
        inner = [tap for tap in taps if tap.path]
        with (
            torch.no_grad(),
            _in_evaluation_mode(self.module),
            self._tapped(inner) as features,
        ):
            output = call_with(self.module, inputs)
        output = output if self.output is None else self.output(output)
        if isinstance(output, dict):
            output = dict(output)  # Hugging Face's outputs are special dicts.
        outer = {tap.text: tap.select(output) for tap in taps if not tap.path}
        return Predictions(output, {**features, **outer})

    @contextlib.contextmanager
    def _tapped(self, taps):
        """Reads taps while the module runs in the `with` block."""
        record = {}
        hooks = [
            self._submodule(tap).register_forward_hook(
                _recording(tap, record), with_kwargs=True
            )
            for tap in taps
        ]
        try:
            yield record
        finally:
            for hook in hooks:
                hook.remove()

    def _submodule(self, tap):
        path = tap.path.replace("/", ".")
        known = dict(self.module.named_modules())
        if path not in known:
            close = difflib.get_close_matches(path, known, n=3, cutoff=0.4)
            raise ValueError(
                f"No submodule {tap.path!r} in the teacher {self.name!r}. "
                f"Received: the tap {tap.text!r}. Closest names: {close}; "
                f"names at the top: {[n for n, _ in self._children()][:20]}."
            )
        if tap.end == "scores":
            raise ValueError(
                "Attention scores can only be read from Keras' layers. "
                f"Received: the tap {tap.text!r} of the teacher {self.name!r}. "
                "Let the module return them, and name their entry in its "
                "output."
            )
        return known[path]

    def _children(self):
        return self.module.named_children()

    # --- before the first batch ---------------------------------------------

    def check_student(self, student):
        self._check_device()

    def check_taps(self, taps):
        """Raises a `ValueError` if a tap names no submodule."""
        for tap in taps:
            if tap.path:
                self._submodule(tap)

    def run(self, arrays, taps):
        """The predictions for NumPy arrays, with errors that explain."""
        self.check_taps(taps)
        inputs = _tensors(arrays)
        who = f"module {self.name!r}"
        check_call(self.module.forward, self.prepared(inputs), who)
        try:
            found = self.predictions(Batch(inputs), taps)
        except (IndexError, RuntimeError) as error:  # PyTorch's own.
            received = keras.tree.map_structure(
                lambda each: (
                    each is not None and f"{each.dtype} {tuple(each.shape)}"
                ),
                inputs,
            )
            raise ValueError(
                f"The {who} can't be run on such data. Received: {received}, "
                f"with PyTorch's error: {error}. Give the student inputs of "
                "the type and shape that the module takes, or use `preprocess`."
            ) from error
        self._check_features(taps, found.features)
        return found

    def _check_features(self, taps, features):
        for tap in taps:
            if tap.text not in features:
                raise ValueError(
                    f"A tap of the teacher {self.name!r} was not reached. "
                    f"Received: {tap.text!r}, whose submodule was not called "
                    "when the module ran."
                )
            for value in keras.tree.flatten(features[tap.text]):
                if not hasattr(value, "shape"):
                    raise ValueError(
                        f"The teacher {self.name!r} must return tensors. "
                        f"Received: {type(value).__name__} at "
                        f"{tap.text or 'output'!r}. Select a tensor of it, "
                        "such as `output=lambda o: o.logits`."
                    )

    def _check_device(self):
        tensors = itertools.chain(
            self.module.parameters(), self.module.buffers()
        )
        devices = {str(each.device) for each in tensors}
        here = str(ops.zeros(()).device)
        if devices and here not in devices:
            raise ValueError(
                f"The module {self.name!r} is on another device than the "
                f"student. Received: a module on {sorted(devices)}, where "
                f"Keras computes on {here!r}. Move it: `module.to({here!r})`."
            )

    # --- what is saved of it ------------------------------------------------

    def fingerprint(self):
        self.warn_of_preprocess()
        state = {
            key: value
            for key, value in self.module.state_dict().items()
            if hasattr(value, "dtype")
        }
        texts = [
            f"{key} {tuple(value.shape)} {value.dtype}"
            for key, value in state.items()
        ]
        text = repr([texts, self.version]).encode()
        return digest([text], state.values())


def _check_module(module):
    if BACKEND != "torch":
        raise ValueError(
            "A TorchModule needs the PyTorch backend, as it runs in the "
            f"training step. Received: the backend {BACKEND!r}. Set "
            "KERAS_BACKEND=torch, or export the module to ONNX "
            "(`keras_kd.teachers.OnnxModel`), or run it on the host "
            "(`keras_kd.teachers.FunctionTeacher`)."
        )
    import torch

    if not isinstance(module, torch.nn.Module) or isinstance(
        module, keras.layers.Layer
    ):
        raise ValueError(
            "Argument `module` must be a `torch.nn.Module` (a Keras model is a "
            f"teacher itself). Received: {type(module).__name__}."
        )


def _tensors(inputs):
    return keras.tree.map_structure(
        lambda each: None if each is None else ops.convert_to_tensor(each),
        inputs,
    )


@contextlib.contextmanager
def _in_evaluation_mode(module):
    """A context in evaluation mode, which restores each submodule's mode."""
    training = [each for each in module.modules() if each.training]
    for each in training:
        each.training = False
    try:
        yield
    finally:
        for each in training:
            each.training = True


def _recording(tap, record):
    def hook(module, args, kwargs, output):
        given = args[0] if args else next(iter(kwargs.values()))
        record[tap.text] = tap.select(given if tap.end == "input" else output)

    return hook
