"""The smallest parts of a model, and which parts use which outputs."""

import contextlib
import functools

import keras
from keras import layers

from keras_kd._src.distillation.taps import called_method
from keras_kd._src.distillation.taps import replaced
from keras_kd._src.keras_compat import sublayers
from keras_kd._src.quantization.weights import WITH_WEIGHTS
from keras_kd._src.specs import of_batch_size
from keras_kd._src.specs import output_spec
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model

# Their inner layers run in a loop of the backend, where no range can be kept.
_CLOSED = layers.RNN, layers.Wrapper
# Their outputs are values of their inputs, or zeros.
_LAYERS_THAT_MOVE = (
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.Dropout,
    layers.Flatten,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.Identity,
    layers.InputLayer,
    layers.Masking,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.Permute,
    layers.RepeatVector,
    layers.Reshape,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
)
_OPERATIONS_THAT_MOVE = {
    "BroadcastTo",
    "Cast",
    "Copy",
    "ExpandDims",
    "Flip",
    "GetItem",
    "Max",
    "Moveaxis",
    "Pad",
    "Ravel",
    "Repeat",
    "Reshape",
    "Split",
    "Squeeze",
    "StopGradient",
    "Swapaxes",
    "Take",
    "Tile",
    "Transpose",
}


def parts_of(model):
    """Dict, path -> layer or operation that has no parts itself."""
    found = {}
    _collect(model, "", found, set())
    return found


def _collect(part, path, found, seen):
    if id(part) in seen:
        return
    seen.add(id(part))
    inside = _inside(part)
    if not inside:
        found[path or part.name] = part
    for each in inside:
        name = each.name if is_model(part) else _name_inside(part, each)
        name = f"{path}/{name}" if path else name
        while name in found:
            name += "_"
        _collect(each, name, found, seen)


def _inside(part):
    if isinstance(part, (*_CLOSED, *WITH_WEIGHTS)):
        return []
    if is_model(part):
        return [call.operation for call in Graph(part).calls]
    return sublayers(part) if isinstance(part, keras.layers.Layer) else []


def _name_inside(layer, part):
    """The name by which `find_layer` finds a part, equal in copies."""
    # Keras numbers the names of layers that were given none.
    held = dict(vars(layer))
    if hasattr(layer, "named_children"):  # PyTorch stores layers elsewhere.
        held |= dict(layer.named_children())
    for name, value in held.items():
        if name.startswith("_"):
            continue
        if value is part:
            return name
        if isinstance(value, (list, tuple)):
            for place, each in enumerate(value):
                if each is part:
                    return f"{name}/{place}"
    return part.name


def moves_values(part):
    """Whether a part's outputs are in the range of its inputs."""
    if isinstance(part, keras.layers.Layer):
        return isinstance(part, _LAYERS_THAT_MOVE)
    return type(part).__name__ in _OPERATIONS_THAT_MOVE


def is_relu(part):
    """Whether a part is a ReLU, which runtimes fuse into the layer before."""
    if isinstance(part, layers.ReLU):
        return not part.negative_slope and not part.threshold
    if isinstance(part, layers.Activation):
        part = part.activation
        return part in (keras.activations.relu, keras.activations.relu6)
    return type(part).__name__ in ("Relu", "Relu6")


class Uses:
    """Records which parts of a model use which outputs, in one pass."""

    def __init__(self, model, spec):
        parts = parts_of(model)
        self._kept, self._users, self._made = [], {}, {}
        with contextlib.ExitStack() as stack:
            for part in parts.values():
                name = called_method(part)
                call = self._recorded(part, getattr(part, name))
                stack.enter_context(replaced(part, name, call))

            def run(inputs):
                outputs = model(inputs, training=False)
                for each in keras.tree.flatten(outputs):
                    self._use(each, None)
                return outputs

            output_spec(run, of_batch_size(spec, 2))
        self.parts = {
            path: part for path, part in parts.items() if self.calls_of(part)
        }

    def _recorded(self, part, original):
        @functools.wraps(original)
        def call(*args, **kwargs):
            for each in keras.tree.flatten((args, kwargs)):
                self._use(each, part)
            result = original(*args, **kwargs)
            self._made.setdefault(id(part), []).append(result)
            return result

        return call

    def _use(self, tensor, user):
        self._kept.append(tensor)  # So that no other tensor gets its id.
        self._users.setdefault(id(tensor), []).append(user)

    def calls_of(self, part):
        """How often a part was called."""
        return len(self._made.get(id(part), []))

    def makes_floats(self, part):
        """Whether each call of a part returns a single tensor of floats."""
        made = self._made.get(id(part), [])
        return all(hasattr(each, "dtype") and is_float(each) for each in made)

    def users_of(self, part):
        """The parts that use a part's outputs; None stands for an output."""
        made = keras.tree.flatten(self._made.get(id(part), []))
        users = [self._users.get(id(each), []) for each in made]
        return [user for each in users for user in each]


def is_float(tensor):
    """Whether a tensor holds floats."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return keras.backend.is_float_dtype(dtype)
