"""A student of the teacher's architecture, with fewer or narrower layers."""

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import number
from keras_kd._src.arguments import one_of
from keras_kd._src.distillation.transfer import Transfer
from keras_kd._src.keras_compat import all_layers
from keras_kd._src.layers.feature_adapter import FeatureAdapter
from keras_kd._src.losses.feature_matching import FeatureMatching
from keras_kd._src.students.shrinking.blocks import described
from keras_kd._src.students.shrinking.blocks import evenly_spaced
from keras_kd._src.students.shrinking.depth import Depth
from keras_kd._src.students.shrinking.fit import INSTEAD
from keras_kd._src.students.shrinking.fit import check_fit
from keras_kd._src.students.shrinking.graph import Graph
from keras_kd._src.students.shrinking.graph import is_model
from keras_kd._src.students.shrinking.graph import shape_at
from keras_kd._src.students.shrinking.rebuild import in_class_of
from keras_kd._src.students.shrinking.rebuild import rebuild
from keras_kd._src.students.shrinking.rebuild import transfer_weights
from keras_kd._src.students.shrinking.width import Narrower
from keras_kd._src.students.shrinking.width import narrowed


def shrink(
    teacher,
    *,
    depth=1.0,
    keep=None,
    width=1.0,
    divisor=8,
    initializer="teacher",
    config=None,
    name=None,
):
    """A smaller student made from the teacher (DistilBERT), and its transfers.

    Saves the work of writing a student, and starts it from the teacher's
    weights; DistilBERT is every second block of BERT:

        student, transfers = kd.students.shrink(teacher, depth=0.5)
        distiller = kd.Distiller(
            teacher,
            student,
            [kd.Transfer(kd.losses.SoftTargets()), *transfers],
        )

    `depth` drops blocks. A block is one layer or many that the model repeats,
    with the same config, in the same connection: a residual block, an
    attention and the MLP behind it, a layer that is a whole block. Of each
    run of blocks a share is kept, evenly spaced, the first among them; a
    block that changes the shape, as at the begin of a stage, is the first of
    its run and always kept:

        keep 6 of 12:          0, 2, 4, 6, 8, 10
        and learn the ends of: 1, 3, 5, 7, 9, 11

    So a block of the student begins as the teacher's block of the same
    layers, and learns to end where the teacher ends the span up to the next
    block that is kept. Kept layers keep their names.

    `width` narrows Keras' own layers: `units`, `filters`, `output_dim`, the
    number of attention heads (of the same size). Layers of other classes
    follow the width of their inputs, and keep what is inside. The width of
    the outputs stays, and all that is added to it. Weights are then evenly
    spaced channels of the teacher's (weight selection). The outputs of a
    narrowed model are not yet near to the teacher's; it learns faster from
    there than from random weights.

    Models inside of the model are shrunk, too. The student is a Functional
    model (a Sequential one of a Sequential teacher), also of a teacher of a
    class of its own, such as a KerasHub backbone or classifier. To get that
    class, pass in `config` what differs:

        shrink(bert_backbone, depth=0.5, config={"num_layers": 6})
        shrink(classifier, depth=0.5, config={"backbone": {"num_layers": 6}})

    The class then makes the layers, and names them. Run with fewer blocks on
    KerasHub 0.32, on backbones, classifiers and causal language models (which
    generate as before; Gemma3's was not run):

        Bert, DistilBert, Roberta,     in a plain model or in the class
        XLMRoberta, DebertaV3, GPT2,
        OPT, Mistral, Mixtral, Gemma,
        Gemma3, Qwen, Phi3, Bloom,
        Falcon
        Llama, Llama3, Qwen3,          in the class, by `config`: KerasHub does
        GPTNeoX                        not make their layers again from the
                                       layers' own configs

    Of these `width` narrows classifiers of BERT (in their class, too, with
    `config={"backbone": {"hidden_dim": 8}}`), the head alone of DistilBERT's
    and RoBERTa's, and, as plain models, causal language models of Mistral,
    Mixtral, Qwen, Bloom and Falcon. Other layers have their widths baked in,
    which some don't say before they are run: a narrowed student is traced
    layer by layer, and an error names the one that does not fit. Backbones
    whose embeddings are their outputs have no width that is free. Drop blocks
    of these, or make a narrower one by its class.

    Layers that are called more than once, also in a model and in one inside of
    it, such as an embedding that makes the logits, are shared in the student,
    too. A head that is given an embedding as an argument (KerasHub's
    `MaskedLMHead`) has one of its own in a plain model.

    What is trainable in the teacher is in the student; all of it, if the
    teacher was frozen as a whole.

    Args:
        teacher: a Functional or a built Sequential model; it stays as it is.
        depth: the share of each run's blocks to keep, in (0, 1]; of each run
            one stays at least.
        keep: in place of `depth`, which blocks: a list of indices if the
            model has one run, else a list of such lists.
        width: the share of channels to keep, in (0, 1].
        divisor: narrower widths are rounded to a multiple of it, where they
            are as large.
        initializer: `"teacher"`, or `"random"` for new weights.
        config: dict, what to change in the teacher's `get_config()` for a
            student of its class; in a dict of its own for a model in there.
            By default the student is a plain model.
        name: the student's name, the teacher's and `"_student"` by default.

    Returns:
        `(student, transfers)`. `transfers` is a list of one `Transfer` with
        `FeatureMatching` for each block that is kept, named `"block_1"` and
        so on, with a `FeatureAdapter` where the shapes differ. Its weight is
        1: compare the parts in the logs, and set `transfer.weight` (a large
        one hinders a student that begins far from the teacher). There is none
        for a block whose end can't be tapped, as that of a layer that is
        called many times.

    Raises:
        ValueError: the teacher is no graph of layers, nothing in it repeats,
            no width is free, a layer can't be made again, has a width baked
            in or does not fit those before it; `config` makes other layers;
            or an argument is out of range.

    Example:
    >>> import keras
    >>> layers = [keras.layers.Dense(8, name=name) for name in "abcd"]
    >>> head = keras.layers.Dense(3, name="head")
    >>> teacher = keras.Sequential([keras.Input((8,)), *layers, head])
    >>> student, transfers = shrink(teacher, depth=0.5)
    >>> [layer.name for layer in student.layers]
    ['a', 'c', 'head']
    >>> [transfer.teacher_taps[0].text for transfer in transfers]
    ['b', 'd']

    References: Sanh et al., 2019, "DistilBERT, a distilled version of BERT",
    arXiv 1910.01108 (its code keeps 0, 2, 4, 7, 9 and 11 of 12: give `keep`);
    Jiao et al., 2020, "TinyBERT: Distilling BERT for Natural Language
    Understanding", arXiv 1909.10351 (which layers learn from which); Xu et
    al., 2024, "Initializing Models with Larger Ones", arXiv 2311.18823
    (weights for narrower layers).
    """
    _check(teacher, depth, keep, width, divisor, initializer)
    name = name or f"{teacher.name}_student"
    blocks = Depth(teacher)
    kept = _kept(blocks.runs, depth, keep)
    graph = blocks.without(kept)
    if config is None or width < 1.0:
        student = rebuild(graph, name=name)
    if width < 1.0:
        student = _narrowed(student, Narrower(width, divisor))
    if config is not None:
        form = Graph(student) if width < 1.0 else graph
        student = in_class_of(teacher, form, config, name)
    transfer_weights(graph, student, copy_weights=initializer == "teacher")
    if teacher.weights and not teacher.trainable_weights:
        # One by one: on TensorFlow a model's flag does not reach its layers.
        for layer in all_layers(student):
            layer.trainable = True
    pairs = blocks.taps(kept, graph, student)
    return student, _transfers(teacher, student, pairs)


def _check(teacher, depth, keep, width, divisor, initializer):
    if not is_model(teacher):
        raise ValueError(
            "A student is made from a graph of layers, so the teacher must be "
            "a Functional or a built Sequential model. Received: teacher="
            f"{teacher!r} (of type {type(teacher).__name__}). Make one of its "
            "layers with `keras.Model(inputs, outputs)`."
        )
    number(depth, "depth", above=0, most=1)
    number(width, "width", above=0, most=1)
    integer(divisor, "divisor")
    one_of(initializer, "initializer", ("teacher", "random"))
    if keep is not None and depth != 1.0:
        raise ValueError(
            "Give either `depth` or `keep`. Received: "
            f"depth={depth}, keep={keep}."
        )


def _kept(runs, depth, keep):
    if depth == 1.0 and keep is None:
        return [list(range(len(run))) for run in runs]
    if not runs:
        raise ValueError(
            "No blocks of the teacher repeat, so none can be dropped. "
            f"Received: depth={depth}, keep={keep}, for a teacher without "
            "two layers or groups of layers, one behind the other, of the "
            "same config, whose outputs have the shape of their inputs (those "
            "inside of a single layer are not seen). Shrink it with `width`."
        )
    if keep is not None:
        return _checked_keep(runs, keep)
    kept = [evenly_spaced(len(run), depth) for run in runs]
    if sum(map(len, kept)) == sum(map(len, runs)):
        raise ValueError(
            "The depth drops no block. Received: "
            f"depth={depth}, for the runs {described(runs)}. Give a smaller "
            "share, or `keep`."
        )
    return kept


def _checked_keep(runs, keep):
    keep = list(keep)
    if keep and all(isinstance(each, int) for each in keep):
        keep = [keep]
    fits = len(keep) == len(runs) and all(map(_fits, runs, keep))
    if not fits:
        raise ValueError(
            "Argument `keep` must be a list of indices for each run of "
            "blocks, rising, of one at least, with the first where it changes "
            f"the shape. Received: keep={keep}, for the runs "
            f"{described(runs)} (blocks by their last layer)."
        )
    return [list(kept) for kept in keep]


def _fits(run, kept):
    kept = list(kept)
    return (
        bool(kept)
        and all(isinstance(each, int) for each in kept)
        and kept == sorted(set(kept))
        and 0 <= kept[0] <= kept[-1] < len(run)
        and not (run[0].is_fixed and kept[0] > 0)
    )


def _narrowed(student, narrower):
    before = student.count_params()
    narrow = narrowed(student, narrower)
    if narrow.count_params() < before:
        check_fit(narrow, student)
        return narrow
    raise ValueError(
        "No layer of the teacher can be narrowed: the width of each is that of "
        f"an input or output, or unknown. Received: width={narrower.share}, "
        f"for the model {student.name!r}. {INSTEAD}"
    )


def _transfers(teacher, student, pairs):
    return [
        Transfer(
            FeatureMatching(),
            teacher=mine,
            student=its,
            adapter=_adapter(shape_at(teacher, mine), shape_at(student, its)),
            name=f"block_{number}",
        )
        for number, (mine, its) in enumerate(pairs, start=1)
    ]


def _adapter(teacher_shape, student_shape):
    if teacher_shape == student_shape:
        return None
    last = teacher_shape[-1] == student_shape[-1]
    first = last and len(teacher_shape) > 3
    return FeatureAdapter(
        data_format="channels_first" if first else "channels_last"
    )
