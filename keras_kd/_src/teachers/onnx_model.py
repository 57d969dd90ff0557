"""OnnxModel: a model in an ONNX file as the teacher."""

from pathlib import Path

import keras
import numpy as np

from keras_kd._src.arguments import received
from keras_kd._src.backend import BACKEND
from keras_kd._src.distillation.taps import Tap
from keras_kd._src.fingerprint import digest
from keras_kd._src.specs import same_shape
from keras_kd._src.teachers.foreign import ForeignTeacher
from keras_kd._src.teachers.foreign import any_batch
from keras_kd._src.teachers.host_call import host_call
from keras_kd._src.teachers.structures import entries_for

TYPES = {"float": "float32", "double": "float64"}


class OnnxModel(ForeignTeacher):
    """A teacher that is a model in an ONNX file, run by onnxruntime.

    For models of any library that exports to ONNX, on any backend: only the
    file is needed. The model runs on the host, once per step, and no gradient
    flows through it. If the data is the same in each epoch, it is faster to
    write its predictions to a cache once (`keras_kd.cache.write`).

    A graph with one input takes the batch's tensor. A graph with several takes
    a dict by their names (a batch may have more entries), or a list in their
    order. Integers are cast to the graph's types, and floats to its precision.
    A graph with a fixed batch size runs several times for a larger batch; the
    last part is filled up with copies of the last sample.

    The graph's outputs are used as they are: if they come from a softmax, give
    a loss of logits `teacher_from_logits=False`.

    Its fingerprint is computed from the bytes of the file. (If weights are in
    other files, give a `version`.) It is never saved with a distiller. On
    TensorFlow, XLA can't compile the step.

    Args:
        path: path of the file.
        outputs: the graph's outputs to use: a name for one tensor, or a list of
            names for a dict of them, of which a transfer names one with a tap
            such as `"[logits]"`. By default the only output, or a dict of all.
        preprocess: function of NumPy arrays, from the batch's inputs to the
            graph's, such as `lambda x: np.moveaxis(x, -1, 1)` for images, or
            `lambda x: {"input_ids": x["token_ids"]}`.
        version: text that identifies `preprocess`, and changes with it, such
            as `"2024-05"`.
        providers: onnxruntime's execution providers, in order of preference.
        name: the teacher's name; by default the file's.

    Raises:
        ValueError: onnxruntime is not installed; there is no such file; an
            output does not exist, or is not a tensor; the inputs have other
            names, types or shapes than the graph's.

    Example:
    >>> import pathlib, tempfile
    >>> import keras_kd as kd
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "identity.onnx"
    >>> graph = (  # Returns its input, of shape (batch, 3).
    ...     "08083a410a100a017812017922084964656e74697479120167"
    ...     "5a140a0178120f0a0d080112090a0312016e0a02080362140a"
    ...     "0179120f0a0d080112090a0312016e0a02080342040a00100d"
    ... )
    >>> _ = path.write_bytes(bytes.fromhex(graph))
    >>> teacher = OnnxModel(path)
    >>> student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    >>> kd.Distiller(teacher, student).teacher.name
    'identity'
    """

    # XLA can't compile a call to the host on TensorFlow.
    supports_jit = BACKEND != "tensorflow"

    def __init__(
        self,
        path,
        *,
        outputs=None,
        preprocess=None,
        version=None,
        providers=("CPUExecutionProvider",),
        name=None,
    ):
        self.path = Path(path)
        super().__init__(name or self.path.stem, preprocess, version)
        self._session = _session(self.path, list(providers))
        self._taken = _specs(self._session.get_inputs())
        self._check_inputs()
        self._returned = self._chosen(outputs)
        settings = repr([outputs, self.version]).encode()
        self._digest = digest([self.path.read_bytes(), settings], [])
        sizes = {spec.shape[0] for spec in self._taken.values()}
        self.batch_size = next((size for size in sizes if size), None)
        self._shapes = {}  # Output specs by the inputs' specs, as found.

    def _check_inputs(self):
        others = [name for name, spec in self._taken.items() if spec is None]
        if others:
            raise ValueError(
                "The inputs of an OnnxModel must be tensors of numbers. "
                f"Received: {self.path.name!r}, whose inputs {others} are not. "
                "Export the model without the steps before these tensors, such "
                "as a tokenizer."
            )

    def _chosen(self, outputs):
        """The outputs that are used, as `KerasTensor`s in their structure."""
        known = _specs(self._session.get_outputs())
        names = list(known) if outputs is None else outputs
        single = isinstance(names, str)
        names = [names] if single else list(names)
        unknown = [name for name in names if known.get(name) is None]
        if unknown or not names:
            tensors = [name for name, spec in known.items() if spec is not None]
            raise ValueError(
                f"Argument `outputs` must name outputs of {self.path.name!r} "
                f"that are tensors: {tensors}. Received: outputs={outputs!r}, "
                f"of which {unknown} are not."
            )
        # In Keras' own types, with which a step computes.
        specs = {name: _for_keras(known[name]) for name in names}
        return specs[names[0]] if single or len(known) == 1 else specs

    # --- one batch ----------------------------------------------------------

    def predictions(self, batch, taps, state_mapping=None, training=True):
        inputs = batch.inputs
        if self.preprocess is None:
            inputs = self._by_name(inputs)
        values = host_call(self._run, inputs, self._output_specs(inputs))
        return self.at_output(values, taps)

    def run(self, arrays, taps):
        """The predictions for NumPy arrays."""
        return self.at_output(self._run(arrays), taps)

    def _run(self, arrays):
        feed = {
            name: self._checked(name, np.asarray(array))
            for name, array in self._by_name(self.prepared(arrays)).items()
        }
        specs = keras.tree.flatten(self._returned)
        names = [spec.name for spec in specs]
        parts = [self._session.run(names, each) for each in self._parts(feed)]
        samples = len(next(iter(feed.values())))
        values = [
            np.concatenate(each)[:samples].astype(spec.dtype)
            for each, spec in zip(zip(*parts), specs)
        ]
        return keras.tree.pack_sequence_as(self._returned, values)

    def _by_name(self, inputs):
        who = f"ONNX model {self.name!r}"
        if isinstance(inputs, dict):
            return entries_for(self._taken, inputs, who)
        names = list(self._taken)
        if isinstance(inputs, (list, tuple)):
            inputs = entries_for(names, inputs, who)
            return dict(zip(names, inputs))
        if len(names) > 1:
            return entries_for(self._taken, inputs, who)  # Raises an error.
        return {names[0]: inputs}

    def _checked(self, name, array):
        spec = self._taken[name]
        shape = (None, *spec.shape[1:])
        cast = np.can_cast(array.dtype, spec.dtype, "same_kind")
        if not cast or not same_shape(array.shape, shape):
            raise ValueError(
                f"The ONNX model {self.name!r} takes {spec.dtype} of shape "
                f"{shape} as {name!r}. Received: {array.dtype} of shape "
                f"{array.shape}. Give data of that type and shape, or convert "
                "it with `OnnxModel(..., preprocess=function)`."
            )
        return array.astype(spec.dtype)

    def _parts(self, feed):
        """The feed, split into batches of the graph's batch size."""
        size, count = self.batch_size, len(next(iter(feed.values())))
        if size is None:
            yield feed
            return
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            yield {name: array[rows] for name, array in feed.items()}

    # --- shapes -------------------------------------------------------------

    def input_spec(self):
        specs = list(self._taken.values())
        is_open = any(None in spec.shape[1:] for spec in specs)
        if self.preprocess is not None or is_open:
            return None
        specs = {spec.name: any_batch(spec) for spec in specs}
        return specs if len(specs) > 1 else next(iter(specs.values()))

    def _output_specs(self, inputs):
        """The specs of its outputs for such inputs, which JAX needs first."""
        outputs = keras.tree.flatten(self._returned)
        if BACKEND != "jax" or all(None not in o.shape[1:] for o in outputs):
            return self._returned
        specs = keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, str(x.dtype)), inputs
        )
        key = repr(specs)
        if key not in self._shapes:
            self._shapes[key] = self.feature_specs([Tap("")], specs)[""]
        return self._shapes[key]

    # --- what is saved of it ------------------------------------------------

    def fingerprint(self):
        self.warn_of_preprocess()
        return self._digest


def _session(path, providers):
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            "An OnnxModel needs onnxruntime. Received: an environment "
            f"without it ({error}). Install it: `pip install onnxruntime`."
        ) from error
    if not path.is_file():
        raise ValueError(
            f"Argument `path` must be an ONNX file. {received('path', path)}"
        )
    return onnxruntime.InferenceSession(str(path), providers=providers)


def _specs(arguments):
    """The specs of a session's inputs or outputs; None for other values."""
    return {each.name: _spec(each) for each in arguments}


def _spec(argument):
    kind, _, dtype = argument.type.partition("(")
    dtype = dtype.rstrip(")")
    dtype = TYPES.get(dtype, dtype)
    if kind != "tensor" or dtype == "string":
        return None
    shape = [n if isinstance(n, int) else None for n in argument.shape]
    return keras.KerasTensor(tuple(shape), dtype, name=argument.name)


def _for_keras(spec):
    """The spec with the type in a step: int32, float32 or bool."""
    dtype = "int32" if "int" in spec.dtype else "float32"
    dtype = "bool" if spec.dtype == "bool" else dtype
    return keras.KerasTensor((None, *spec.shape[1:]), dtype, name=spec.name)
