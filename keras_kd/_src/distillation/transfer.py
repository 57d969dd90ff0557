"""Transfer: one distillation term, a loss between two taps."""

import keras

from keras_kd._src.arguments import integer
from keras_kd._src.arguments import received
from keras_kd._src.distillation.adapters import adapt
from keras_kd._src.distillation.adapters import build_adapters
from keras_kd._src.distillation.adapters import check_shapes
from keras_kd._src.distillation.adapters import layers_of
from keras_kd._src.distillation.adapters import one_adapter_a_pair
from keras_kd._src.distillation.adapters import shape_pairs
from keras_kd._src.distillation.adapters import unbuilt_config
from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.distillation.inspection import FeatureInspection
from keras_kd._src.distillation.last_activation import PROBABILITIES
from keras_kd._src.distillation.taps import features_at
from keras_kd._src.distillation.taps import listed
from keras_kd._src.distillation.taps import taps_of
from keras_kd._src.distillation.taps import text_of
from keras_kd._src.distillation.term_data import FeaturePair
from keras_kd._src.distillation.term_data import TermData
from keras_kd._src.distillation.term_data import common_output
from keras_kd._src.distillation.term_data import find_mask
from keras_kd._src.distillation.term_data import of_positions
from keras_kd._src.distillation.term_data import outputs_at
from keras_kd._src.distillation.term_data import without_ignored
from keras_kd._src.losses.any_loss import call_loss
from keras_kd._src.losses.chunked_logits import ChunkedLogits
from keras_kd._src.losses.chunked_logits import PositionTerm
from keras_kd._src.naming import snake_case
from keras_kd._src.rules.rule import checked_rules
from keras_kd._src.rules.rule import fit_rules
from keras_kd._src.rules.rule_inputs import RuleInputs
from keras_kd._src.rules.rule_inputs import loss_after_rules


@keras.saving.register_keras_serializable(package="keras_kd")
class Transfer(keras.layers.Layer):
    """A distillation term: a loss between a teacher tap and a student tap.

    Any loss, between any two taps, with any adapter:

        term = weight * loss(teacher_adapter(teacher features),
                             adapter(student features))

    The same rules choose the weights, labels and mask of a batch for every
    loss:

    - At an output (tap `"[cls]"`, or `""` where each of several outputs is
      compared) a term uses that output's weights and labels. Elsewhere it uses
      those that `labels=` names, or those that all outputs share; weights that
      differ by output raise an error there. The student's tap decides the
      output, or else the teacher's.
    - If there are weights for tokens or pixels, a loss with one value per
      position multiplies its values by them; for another resolution they are
      resized by area. A loss with one value per sample leaves out positions of
      weight 0, and takes the mean of the other weights as the sample's weight.
      The same holds where the features have no positions, or other axes of
      positions than the weights.
    - Masked positions are left out. The mask is Keras' mask of the student's
      features, or else of the teacher's; else the input that `mask=` names, or
      KerasHub's `"padding_mask"` if it has the features' positions. In
      attention maps it keeps valid queries and keys.
    - A position whose label is the compiled loss's `ignore_class` has weight
      0. With one label per sample no sample is left out, so that samples
      without a label still train on the teacher. `ignore_class=` overrides
      both.

    Args:
        loss: a loss of `keras_kd.losses`, or any `keras.losses.Loss`; it is
            called with `(teacher_features, student_features, sample_weight)`.
        teacher: where to read the teacher: a layer's name, a path such as
            `"backbone/stage2"`, with `":input"` for the layer's input (see
            `keras_kd.Tap`), or a list of them. Its output by default.
        student: where to read the student, likewise; the same number of taps
            as for the teacher.
        adapter: a layer that brings the student's features to the teacher's
            shape, such as `keras_kd.layers.FeatureAdapter()`, or any Keras
            layer. It is trained with the student, but is not part of it. With
            several taps each pair gets its own copy (or its own entry of a
            list), unless an adapter with `joint = True` takes all pairs.
        teacher_adapter: likewise, a layer for the teacher's features, for
            methods that compare embeddings of both sides. It is trained, too;
            the teacher is not.
        rules: list of `keras_kd.rules`, which filter, refine or re-weight the
            teacher's logits, or scale them by a temperature.
        weight: weight of the term, a non-negative number or a
            `LearningRateSchedule` over training steps. It is a variable, and
            can be set later.
        labels: key, position or name of the output whose labels (and weights)
            are used, if the student has several outputs and the taps read
            none of them.
        mask: key of the input that is 1 (or True) at positions that count,
            and 0 at padding, shape `(batch, positions...)`, for features
            without a Keras mask. `"padding_mask"` by default, if there is such
            an input; False for none.
        ignore_class: label (an integer) whose samples or positions don't count
            in this term; False for none. By default that of the compiled loss,
            for labels of tokens and pixels.
        name: names the term in the logs, `<name>_loss`; by default the loss's
            name.

    Raises:
        ValueError: an argument has the wrong type, the numbers of taps differ,
            or the rules don't fit the loss.

    Example:
    >>> import keras_kd as kd
    >>> transfer = kd.Transfer(
    ...     kd.losses.FeatureMatching(),
    ...     teacher="stage3",
    ...     student="backbone/stage2",
    ...     adapter=kd.layers.FeatureAdapter(),
    ...     weight=0.5,
    ... )
    >>> transfer.name, float(transfer.weight)
    ('feature_matching', 0.5)
    """

    def __init__(
        self,
        loss,
        *,
        teacher=None,
        student=None,
        adapter=None,
        teacher_adapter=None,
        rules=(),
        weight=1.0,
        labels=None,
        mask=None,
        ignore_class=None,
        name=None,
    ):
        if not isinstance(loss, keras.losses.Loss):
            raise ValueError(
                "Argument `loss` must be a `keras.losses.Loss`, such as "
                f"`keras_kd.losses.SoftTargets()`. Received: loss={loss!r}."
            )
        # No autocast, so that the loss gets the logits in full precision.
        name = name or snake_case(type(loss).__name__)
        super().__init__(name=name, autocast=False)
        self.loss = loss
        self.teacher_taps = taps_of(teacher)
        self.student_taps = taps_of(student)
        if len(self.teacher_taps) != len(self.student_taps):
            raise ValueError(
                f"Transfer {self.name!r} needs the same number of teacher and "
                "student taps: they are paired in order. Received: "
                f"teacher={teacher!r}, student={student!r}."
            )
        self.adapters = listed(adapter)
        self.teacher_adapters = listed(teacher_adapter)
        self.rules = checked_rules(rules, loss)
        self.labels = None if labels is None else str(labels)
        self.mask = _checked_mask(mask)
        self.ignore_class = _checked_class(ignore_class)
        self.shapes = None  # Pairs of feature shapes, once they are known.
        # The last activation of each side, if known. Logits are read before a
        # softmax or sigmoid, unless the loss says what its inputs are.
        self.activations = {}
        self.inspection = FeatureInspection()
        self._weight = Hyperparameter(weight, "weight")
        # The loss is no layer, so the layers that it holds are tracked here.
        self._loss_layers = layers_of(loss)

    @property
    def weight(self):
        return self._weight.variable

    @weight.setter
    def weight(self, value):
        self._weight.assign(value)

    def hyperparameters(self):
        """Numbers that may change: the weight, the loss's and the rules'."""
        rules = [p for rule in self.rules for p in rule.hyperparameters()]
        return [self._weight, *self.loss_hyperparameters, *rules]

    @property
    def loss_hyperparameters(self):
        """The numbers of the loss that may change in training."""
        layers = self._loss_layers
        return [each for each in layers if isinstance(each, Hyperparameter)]

    @property
    def reads_output(self):
        """Whether it reads only the teacher's output, not its layers."""
        return not any(tap.path for tap in self.teacher_taps)

    @property
    def distills_classes(self):
        """Whether it treats the teacher's output as logits of classes."""
        loss = self.loss
        classes = getattr(loss, "activation", "softmax") == "softmax"
        classes = classes and getattr(loss, "same_tokens", True)
        logits = getattr(loss, "expects_logits", False)
        return logits and classes and self.reads_output

    @property
    def all_teacher_taps(self):
        """The teacher's taps, of the loss and of the rules."""
        own = [tap for rule in self.rules for tap in rule.teacher_taps]
        return [*self.teacher_taps, *own]

    def teacher_features(self, features):
        """This transfer's teacher features, from those of all transfers."""
        return features_at(self.teacher_taps, features)

    def student_features(self, features):
        """This transfer's student features, from those of all transfers."""
        return features_at(self.student_taps, features)

    def read_logits(self, teacher, student):
        """Moves taps before a last softmax or sigmoid, to read logits.

        Not where the loss has the argument `teacher_from_logits` or
        `student_from_logits` set.

        Args:
            teacher: function from a tap's text to the name of the activation
                whose values it reads, or None.
            student: likewise.
        """
        if not getattr(self.loss, "expects_logits", False):
            return
        sides = {
            "teacher": (teacher, self.teacher_taps, self.teacher_adapters),
            "student": (student, self.student_taps, self.adapters),
        }
        for side, (activation_of, taps, adapters) in sides.items():
            stated = getattr(self.loss, f"{side}_from_logits", None) is not None
            if stated or any(adapter is not None for adapter in adapters):
                continue
            for number, tap in enumerate(taps):
                name = activation_of(tap.text)
                self.activations.setdefault(side, name)
                if name in PROBABILITIES:
                    self.activations[side] = name
                    taps[number] = tap.before_activation()

    def match(self, teacher_shapes, student_shapes):
        """Builds the adapters, and checks that the features fit the loss.

        Args:
            teacher_shapes: shapes of the teacher's features, with batch axis.
            student_shapes: shapes of the student's features.

        Raises:
            ValueError: adapters or loss don't fit the features.
        """
        pairs = shape_pairs(teacher_shapes, student_shapes, self.name)
        self.adapters, self.teacher_adapters = (
            one_adapter_a_pair(adapters, len(pairs), self.name)
            for adapters in (self.adapters, self.teacher_adapters)
        )
        try:
            adapted = build_adapters(
                self.name, self.teacher_adapters, self.adapters, pairs
            )
            check_shapes(self.loss, adapted)
            fit_rules(self.name, self.rules, adapted)
        except ValueError as error:
            raise ValueError(
                f"Transfer {self.name!r}, "
                f"teacher {text_of(self.teacher_taps)}, "
                f"student {text_of(self.student_taps)}: {error}"
            ) from error
        self.shapes = pairs
        self.built = True

    def term(
        self,
        teacher_features,
        student_features,
        data=None,
        *,
        training=False,
        check_probabilities=False,
    ):
        """The weighted loss of one batch; for use inside the step.

        Args:
            teacher_features: dict, tap text -> value, of the teacher.
            student_features: the same for the student.
            data: the other parts of the batch, a `TermData`; None if none.
            training: whether adapters run in training mode.
            check_probabilities: whether to look for probabilities where the
                loss expects logits, or the other way round.

        Returns:
            A scalar.

        Raises:
            ValueError: the data lacks something that the term needs, or has it
                for each of several outputs.
        """
        teacher = self.teacher_features(teacher_features)
        student = self.student_features(student_features)
        self._inspect(teacher, student, check_probabilities)
        # With the features before the adapter, which may drop their mask.
        pairs = [
            FeaturePair(*pair)
            for pair in zip(
                adapt(self.teacher_adapters, teacher, training),
                adapt(self.adapters, student, training),
                teacher,
                student,
                outputs_at(self.teacher_taps, teacher_features),
                outputs_at(self.student_taps, student_features),
            )
        ]
        value = self._loss_value(
            pairs, teacher_features, data or TermData(), training
        )
        weight = keras.ops.convert_to_tensor(self.weight)
        if isinstance(value, PositionTerm):
            return value.scaled(weight)
        return value * weight

    def _inspect(self, teacher, student, check_probabilities):
        if any(isinstance(each, ChunkedLogits) for each in student):
            # There are no logits to check.
            teacher = [getattr(each, "source", each) for each in teacher]
            student = [getattr(each, "source", each) for each in student]
            check_probabilities = False
        flags = self.from_logits if check_probabilities else None
        self.inspection.update(teacher, student, flags)

    def _loss_value(self, pairs, teacher_features, data, training):
        if not getattr(self.loss, "joint", False):
            first, *others = [
                self._pair_value(pair, teacher_features, data, training)
                for pair in pairs
            ]
            return sum(others, first)
        outputs = common_output(pairs)
        labels = self._labels(outputs, data)
        return call_loss(
            self.loss,
            [pair.teacher for pair in pairs],
            [pair.student for pair in pairs],
            self._sample_weight(outputs, labels, data),
            self._masks(pairs, data),
            self._context(labels, data, training),
        )

    def _pair_value(self, pair, teacher_features, data, training):
        labels = self._labels(pair.outputs, data)
        weight = self._sample_weight(pair.outputs, labels, data)
        (mask,) = self._masks([pair], data) or [None]
        inputs = RuleInputs(
            pair.teacher,
            pair.student,
            weight,
            labels,
            teacher_features=teacher_features,
            training=training,
        )
        context = self._context(labels, data, training)
        return loss_after_rules(self.loss, self.rules, inputs, mask, context)

    def _context(self, labels, data, training):
        """The keyword arguments of the loss that the batch provides."""
        required = set(getattr(self.loss, "required_context", ()))
        reads = "labels" in required or any(r.needs_labels for r in self.rules)
        if reads and labels is None and data.labels is not None:
            raise self._wrong_labels(data)
        context = dict(
            labels=labels,
            sample_index=data.sample_index,
            training=training,
            inputs=data.inputs,
        )
        return {name: context[name] for name in required & context.keys()}

    def _labels(self, outputs, data):
        """The labels of a pair's output; None if there are none."""
        if self.labels is None or data.labels is None:
            return data.of_output(data.labels, outputs)
        labels = data.of_output(data.labels, [self.labels])
        if labels is None or labels is data.labels:
            raise self._wrong_labels(data)
        return labels

    def _wrong_labels(self, data):
        return ValueError(
            f"Transfer {self.name!r} takes the labels of one output, or one "
            f"set for all outputs. Received: labels={self.labels!r}, student "
            f"{text_of(self.student_taps)}, and data with labels "
            f"{data.text_of_labels}. Name one of several outputs, as in "
            "`Transfer(labels='cls')`; leave `labels` out for one set."
        )

    def _sample_weight(self, outputs, labels, data):
        """The weights of a pair's output, 0 where its label is ignored."""
        outputs = [*outputs, *([self.labels] if self.labels else [])]
        weight = data.of_output(data.sample_weight, outputs)
        if weight is None and data.sample_weight is not None:
            weight, *others = keras.tree.flatten(data.sample_weight)
            self.inspection.compare_weights(weight, others)
        ignored = self.ignore_class
        if ignored is None and of_positions(labels):
            hard_loss = data.of_output(data.hard_loss, outputs)
            ignored = getattr(hard_loss, "ignore_class", None)
        if labels is None or ignored is None or ignored is False:
            return weight
        return without_ignored(weight, labels, ignored)

    def different_weights(self):
        """The error for weights that differ by output, at none of these."""
        return ValueError(
            f"Transfer {self.name!r} reads no output of the student, and can't "
            "choose among weights that differ by output. Received: student "
            f"{text_of(self.student_taps)}, and a `sample_weight` for each "
            "output, not all the same. Give `fit` one array for all outputs, "
            "tap an output, as in `student='[cls]'`, or name the output whose "
            "weights and labels count: `Transfer(labels='cls')`."
        )

    def _masks(self, pairs, data):
        """The masks of the pairs' positions; None if no pair has one."""
        masks = [
            find_mask(self.loss, pair, data.inputs, self.mask, self.name)
            for pair in pairs
        ]
        return masks if any(mask is not None for mask in masks) else None

    @property
    def from_logits(self):
        """Both sides' `from_logits`, None where not set.

        None for a loss that does not compare logits.
        """
        if not getattr(self.loss, "expects_logits", False):
            return None
        names = "teacher_from_logits", "student_from_logits"
        return [getattr(self.loss, name, None) for name in names]

    def __repr__(self):
        return f"<{self.describe()}>"

    def describe(self):
        """One line with its loss, taps, weight and adapters."""
        parts = [
            f"{self.name}: {type(self.loss).__name__}, "
            f"teacher {text_of(self.teacher_taps)} -> "
            f"student {text_of(self.student_taps)}"
        ]
        parts += [f"{each.name} {each.text}" for each in self.hyperparameters()]
        parts += [
            f"{side} {type(layer).__name__} ({_parameters(layer)})"
            for side, layers in (
                ("adapter", self.adapters),
                ("teacher adapter", self.teacher_adapters),
            )
            for layer in layers
            if layer is not None
        ]
        parts += [f"rule {type(rule).__name__}" for rule in self.rules]
        return ", ".join(parts)

    def get_config(self):
        return {
            "loss": self.loss,
            "teacher": [tap.text for tap in self.teacher_taps],
            "student": [tap.text for tap in self.student_taps],
            "adapter": [unbuilt_config(adapter) for adapter in self.adapters],
            "teacher_adapter": [
                unbuilt_config(adapter) for adapter in self.teacher_adapters
            ],
            "rules": [unbuilt_config(rule) for rule in self.rules],
            "weight": self._weight.config(),
            "labels": self.labels,
            "mask": self.mask,
            "ignore_class": self.ignore_class,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            **{
                key: keras.saving.deserialize_keras_object(value)
                for key, value in config.items()
            }
        )

    def get_build_config(self):
        return self.shapes and {"shapes": self.shapes}

    def build_from_config(self, config):
        teacher_shapes, student_shapes = zip(*config["shapes"])
        self.match(teacher_shapes, student_shapes)


def _checked_mask(mask):
    if mask is None or mask is False or isinstance(mask, str):
        return mask
    raise ValueError(
        "Argument `mask` must be the key of an input, such as 'padding_mask', "
        "or False for no mask from an input. " + received("mask", mask)
    )


def _checked_class(ignore_class):
    if ignore_class is None or ignore_class is False:
        return ignore_class
    return integer(ignore_class, "ignore_class", least=-(2**31))


def _parameters(layer):
    return f"{layer.count_params():,} parameters" if layer.built else "unbuilt"


def as_transfers(transfers):
    """A list of transfers, from losses, transfers or lists of them."""
    return [_as_transfer(each) for each in listed(transfers)]


def _as_transfer(given):
    if isinstance(given, Transfer):
        return given
    if isinstance(given, keras.losses.Loss):
        return Transfer(given)
    raise ValueError(
        "Argument `transfers` must be a loss such as "
        "`keras_kd.losses.SoftTargets()`, a `keras_kd.Transfer`, or a list of "
        f"them. Received: {given!r} (of type {type(given).__name__})."
    )
