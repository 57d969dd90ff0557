"""shrink: a student like the teacher, with fewer or narrower layers."""

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

    You need not write a student, and it starts from the teacher's weights.
    DistilBERT, for example, is every second block of BERT:

        student, transfers = kd.students.shrink(teacher, depth=0.5)
        distiller = kd.Distiller(
            teacher,
            student,
            [kd.Transfer(kd.losses.SoftTargets()), *transfers],
        )

    `depth` drops blocks. A block is one or more layers that the model repeats
    with the same config and the same connections: a residual block, an
    attention and the MLP after it, or a layer that is a whole block. A run is
    a sequence of equal blocks. In each run a share of the blocks is kept,
    evenly spaced and with the first one. A block that changes the shape, as at
    the beginning of a stage, is the first of its run and is always kept:

        keep 6 of 12 blocks:         0, 2, 4, 6, 8, 10
        and train them to match the
        outputs of the teacher's:    1, 3, 5, 7, 9, 11

    So a block of the student starts with the weights of one of the teacher's
    blocks, and is trained to give the output of the last block that it
    replaces, the one before the next block that is kept. Kept layers keep
    their names.

    `width` narrows Keras' own layers: `units`, `filters`, `output_dim`, and
    the number of attention heads (whose size stays). Layers of other classes
    take the width of their inputs, and their inner widths stay. The width of
    the outputs stays, and so does the width of all that is added to them. The
    weights are evenly spaced channels of the teacher's (weight selection). The
    outputs of a narrowed model are not yet close to the teacher's, but it
    learns faster from these weights than from random ones.

    Models inside the model are shrunk, too. The student is a Functional model
    (a Sequential one for a Sequential teacher), even if the teacher has a class
    of its own, such as a KerasHub backbone or classifier. To get a student of
    that class, pass the arguments that differ in `config`:

        shrink(bert_backbone, depth=0.5, config={"num_layers": 6})
        shrink(classifier, depth=0.5, config={"backbone": {"num_layers": 6}})

    The class then makes the layers, and names them. The following models of
    KerasHub 0.32 were run with fewer blocks, as backbones, classifiers and
    causal language models (which generate as before; Gemma3's was not run):

        Bert, DistilBert, Roberta,     in a plain model or in the class
        XLMRoberta, DebertaV3, GPT2,
        OPT, Mistral, Mixtral, Gemma,
        Gemma3, Qwen, Phi3, Bloom,
        Falcon
        Llama, Llama3, Qwen3,          in the class, by `config`: KerasHub
        GPTNeoX                        can't make their layers again from the
                                       layers' own configs

    Of these, `width` narrows classifiers of BERT (in their class, too, with
    `config={"backbone": {"hidden_dim": 8}}`), only the head of those of
    DistilBERT and RoBERTa, and, as plain models, causal language models of
    Mistral, Mixtral, Qwen, Bloom and Falcon. Other layers have hard-coded
    widths, some of which show only when a layer runs: a narrowed student is
    therefore traced layer by layer, and an error names the layer that does not
    fit. Backbones whose outputs are their embeddings can't be narrowed. For
    such models drop blocks, or make a narrower one with its class.

    Layers that are called more than once are shared in the student, too, such
    as an embedding that computes the logits; also if one call is in a model
    and another in a model inside it. A head that gets an embedding as an
    argument (KerasHub's `MaskedLMHead`) has its own embedding in a plain
    model.

    Layers of the student are trainable if the teacher's are; all of them, if
    the teacher was frozen as a whole.

    Args:
        teacher: a Functional or a built Sequential model; it is not changed.
        depth: the share of each run's blocks to keep, in (0, 1]; at least one
            block of each run is kept.
        keep: the blocks to keep, in place of `depth`: a list of indices if the
            model has one run, else a list of such lists.
        width: the share of channels to keep, in (0, 1].
        divisor: narrower widths are rounded to a multiple of it, unless they
            are smaller than it.
        initializer: `"teacher"`, or `"random"` for new weights.
        config: dict of the entries to change in the teacher's `get_config()`,
            for a student of its class; for a model inside it, a dict in this
            dict. By default the student is a plain model.
        name: the student's name; by default the teacher's and `"_student"`.

    Returns:
        `(student, transfers)`. `transfers` is a list of one `Transfer` with
        `FeatureMatching` for each block that is kept, named `"block_1"` and
        so on, with a `FeatureAdapter` if the shapes differ. Its weight is
        1: compare the parts in the logs, and set `transfer.weight` (a large
        weight slows a student that starts far from the teacher). There is none
        for a block whose output can't be tapped, such as that of a layer that
        is called many times.

    Raises:
        ValueError: the teacher is not a graph of layers; it has no repeated
            blocks, or no layer that can be narrowed; a layer can't be made
            again, has a hard-coded width, or does not fit those before it;
            `config` makes other layers; or an argument is out of range.

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
        template = Graph(student) if width < 1.0 else graph
        student = in_class_of(teacher, template, config, name)
    transfer_weights(graph, student, copy_weights=initializer == "teacher")
    if teacher.weights and not teacher.trainable_weights:
        # One by one: on TensorFlow a model's flag does not change its layers.
        for layer in all_layers(student):
            layer.trainable = True
    pairs = blocks.taps(kept, graph, student)
    return student, _transfers(teacher, student, pairs)


def _check(teacher, depth, keep, width, divisor, initializer):
    if not is_model(teacher):
        raise ValueError(
            "The teacher must be a Functional or a built Sequential model, as "
            "the student is made from its graph of layers. Received: teacher="
            f"{teacher!r} (of type {type(teacher).__name__}). Make such a "
            "model from its layers with `keras.Model(inputs, outputs)`."
        )
    number(depth, "depth", above=0, most=1)
    number(width, "width", above=0, most=1)
    integer(divisor, "divisor")
    one_of(initializer, "initializer", ("teacher", "random"))
    if keep is not None and depth != 1.0:
        raise ValueError(
            "Give either `depth` or `keep`, not both. Received: "
            f"depth={depth}, keep={keep}."
        )


def _kept(runs, depth, keep):
    if depth == 1.0 and keep is None:
        return [list(range(len(run))) for run in runs]
    if not runs:
        raise ValueError(
            "The teacher has no repeated blocks that could be dropped. "
            f"Received: depth={depth}, keep={keep}, for a teacher without "
            "two layers or groups of layers, one after the other, of the "
            "same config, whose outputs have the shape of their inputs (those "
            "inside a single layer are not found). Shrink it with `width`."
        )
    if keep is not None:
        return _checked_keep(runs, keep)
    kept = [evenly_spaced(len(run), depth) for run in runs]
    if sum(map(len, kept)) == sum(map(len, runs)):
        raise ValueError(
            "Argument `depth` must be small enough to drop a block. Received: "
            f"depth={depth}, for the runs {described(runs)}. Give a smaller "
            "`depth`, or `keep`."
        )
    return kept


def _checked_keep(runs, keep):
    keep = list(keep)
    if keep and all(isinstance(each, int) for each in keep):
        keep = [keep]
    fits = len(keep) == len(runs) and all(map(_fits, runs, keep))
    if not fits:
        raise ValueError(
            "Argument `keep` must be a list for each run of blocks: at least "
            "one index, in rising order, and 0 among them if the first block "
            f"changes the shape. Received: keep={keep}, for the runs "
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
            teacher=source,
            student=target,
            adapter=_adapter(
                shape_at(teacher, source), shape_at(student, target)
            ),
            name=f"block_{number}",
        )
        for number, (source, target) in enumerate(pairs, start=1)
    ]


def _adapter(teacher_shape, student_shape):
    if teacher_shape == student_shape:
        return None
    last = teacher_shape[-1] == student_shape[-1]
    first = last and len(teacher_shape) > 3
    return FeatureAdapter(
        data_format="channels_first" if first else "channels_last"
    )
