"""TensorFlow's SavedModel, a folder, which TensorFlow Serving runs."""

import collections

from keras_kd._src.backend import BACKEND
from keras_kd._src.export.converter_errors import converter_errors
from keras_kd._src.export.job import package_versions
from keras_kd._src.export.signature import specs_of

NAME = "SavedModel"
SUFFIX = ""
# From PyTorch, Keras needs torch-xla.
BACKENDS = ("tensorflow", "jax")
PACKAGES = {"tensorflow": "tensorflow"}
RUNTIME = "tensorflow"
DYNAMIC = True
QUANTIZED = ()
SIGNATURE = "serving_default"


def write(student, job, path):
    """Writes the student as a folder."""
    with converter_errors(student, job):
        student.export(
            path,
            format="tf_saved_model",
            input_signature=[specs_of(job)],
            verbose=False,
        )


def reader(path, job):
    """A function from arrays by name to outputs by name."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures[SIGNATURE]

    def run(arrays, keep_alive=loaded):
        outputs = signature(**{n: tf.constant(a) for n, a in arrays.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return run


def operations(path, job):
    """Counts of operations; none is quantized."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    graph = loaded.signatures[SIGNATURE].graph.as_graph_def()
    nodes = list(graph.node)
    for function in graph.library.function:
        nodes += function.node_def
    return dict(collections.Counter(node.op for node in nodes)), []


def versions():
    """Versions of the packages that wrote and ran the file."""
    return package_versions(*{"tensorflow", BACKEND})
