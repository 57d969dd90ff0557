"""Transfer: one thing that is passed on, from where to where."""

import keras

from keras_kd._src.distillation.adapters import adapted
from keras_kd._src.distillation.adapters import check_shapes
from keras_kd._src.distillation.adapters import fit_adapters
from keras_kd._src.distillation.adapters import one_adapter_a_pair
from keras_kd._src.distillation.adapters import pairs_of
from keras_kd._src.distillation.adapters import unbuilt_config
from keras_kd._src.distillation.hyperparameter import Hyperparameter
from keras_kd._src.distillation.inspection import Inspection
from keras_kd._src.distillation.taps import listed
from keras_kd._src.distillation.taps import taps_of
from keras_kd._src.distillation.taps import text_of
from keras_kd._src.distillation.taps import views_at
from keras_kd._src.naming import snake_case
from keras_kd._src.rules.rule import checked_rules
from keras_kd._src.rules.rule import fit_rules
from keras_kd._src.rules.rule_inputs import RuleInputs
from keras_kd._src.rules.rule_inputs import loss_after_rules


@keras.saving.register_keras_serializable(package="keras_kd")
class Transfer(keras.layers.Layer):
    """One term of the total loss: what the student learns, and from where.

    Any loss, between any two taps, with any adapter:

        term = weight * loss(teacher_adapter(teacher view),
                             adapter(student view))

    Args:
        loss: a loss of `keras_kd.losses`, or any `keras.losses.Loss`; it is
            called with `(teacher_features, student_features, sample_weight)`.
        teacher: where to read the teacher: a layer's name, a path such as
            `"backbone/stage2"`, with `":input"` for what the layer is given
            (see `keras_kd.taps.Tap`), or a list of them. Its output by
            default.
        student: where to read the student, likewise; as many taps as on the
            teacher's side.
        adapter: a layer that brings the student's view to the teacher's
            shape, such as `keras_kd.layers.FeatureAdapter()`, or any Keras
            layer. It is trained with the student and no part of it. With
            several taps each pair gets an adapter of its own (a list gives
            them one by one), unless one with `joint = True` takes all views.
        teacher_adapter: likewise, a layer through which the teacher's view
            goes, for methods that compare embeddings of both sides. It is
            trained, too; the teacher is not.
        rules: list of `keras_kd.rules`, which mend, weigh or temper logits.
        weight: how much the term counts, a non-negative number or a
            `LearningRateSchedule` over training steps. A variable that can
            be assigned later.
        name: names the term in the logs, `<name>_loss`; the loss's by default.

    Raises:
        ValueError: an argument is not of its kind, the numbers of taps differ,
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
        name=None,
    ):
        if not isinstance(loss, keras.losses.Loss):
            raise ValueError(
                "Argument `loss` must be a `keras.losses.Loss`, such as "
                f"`keras_kd.losses.SoftTargets()`. Received: loss={loss!r}."
            )
        # autocast off: logits must reach the loss in the precision they have.
        name = name or snake_case(type(loss).__name__)
        super().__init__(name=name, autocast=False)
        self.loss = loss
        self.teacher_taps = taps_of(teacher)
        self.student_taps = taps_of(student)
        if len(self.teacher_taps) != len(self.student_taps):
            raise ValueError(
                f"Transfer {self.name!r} needs as many teacher taps as student "
                f"taps: they are paired in order. Received: teacher={teacher!r}"
                f", student={student!r}."
            )
        self.adapters = listed(adapter)
        self.teacher_adapters = listed(teacher_adapter)
        self.rules = checked_rules(rules, loss)
        self.view_shapes = None
        self.inspection = Inspection()
        self._weight = Hyperparameter(weight, "weight")
        # The loss is no layer: what it keeps in variables is tracked here.
        self._loss_parts = [
            value
            for value in vars(loss).values()
            if isinstance(value, keras.layers.Layer)
        ]

    @property
    def weight(self):
        return self._weight.variable

    @weight.setter
    def weight(self, value):
        self._weight.assign(value)

    def hyperparameters(self):
        """What may move while training: the weight, the loss's, the rules'."""
        parts = [self._weight, *self._loss_parts]
        own = [part for part in parts if isinstance(part, Hyperparameter)]
        return own + [p for rule in self.rules for p in rule.hyperparameters()]

    @property
    def asked_taps(self):
        """Where the teacher is read: for the loss, and for the rules."""
        own = [tap for rule in self.rules for tap in rule.teacher_taps]
        return [*self.teacher_taps, *own]

    def teacher_features(self, views):
        """This transfer's teacher views, out of those of all transfers."""
        return views_at(self.teacher_taps, views)

    def student_features(self, views):
        """This transfer's student views, out of those of all transfers."""
        return views_at(self.student_taps, views)

    def match(self, teacher_shapes, student_shapes):
        """Builds the adapters, and checks that the loss joins the views.

        Args:
            teacher_shapes: shapes of the teacher's views, with batch axis.
            student_shapes: shapes of the student's views.

        Raises:
            ValueError: the views can't be joined.
        """
        shapes = pairs_of(teacher_shapes, student_shapes, self.name)
        self.adapters, self.teacher_adapters = (
            one_adapter_a_pair(adapters, len(shapes), self.name)
            for adapters in (self.adapters, self.teacher_adapters)
        )
        try:
            fitted = fit_adapters(
                self.name, self.teacher_adapters, self.adapters, shapes
            )
            check_shapes(self.loss, fitted)
            fit_rules(self.name, self.rules, fitted)
        except ValueError as error:
            raise ValueError(
                f"Transfer {self.name!r}, "
                f"teacher {text_of(self.teacher_taps)}, "
                f"student {text_of(self.student_taps)}: {error}"
            ) from error
        self.view_shapes = shapes
        self.built = True

    def term(
        self,
        teacher_features,
        student_features,
        sample_weight,
        *,
        labels=None,
        sample_index=None,
        training=False,
        look=False,
    ):
        """The weighted loss of one batch; for use inside the step.

        Args:
            teacher_features: dict, tap text -> value, of the teacher.
            student_features: the same of the student.
            sample_weight: optional, shape `(batch,)`.
            labels: the batch's labels, for losses and rules that need them.
            sample_index: each sample's place in the data, likewise.
            training: whether adapters run in training mode.
            look: whether to look for probabilities in place of logits.

        Returns:
            A scalar.
        """
        teacher = self.teacher_features(teacher_features)
        student = self.student_features(student_features)
        self.inspection.update(
            teacher,
            student,
            look and getattr(self.loss, "expects_logits", False),
        )
        teacher = adapted(self.teacher_adapters, teacher, training)
        student = adapted(self.adapters, student, training)
        context = dict(
            labels=labels, sample_index=sample_index, training=training
        )
        needs = set(getattr(self.loss, "required_context", ()))
        context = {name: context[name] for name in needs & context.keys()}
        if getattr(self.loss, "joint", False):
            value = self.loss(teacher, student, sample_weight, **context)
        else:
            shared = (sample_weight, labels, None, teacher_features, training)
            value = sum(
                loss_after_rules(
                    self.loss, self.rules, RuleInputs(*pair, *shared), context
                )
                for pair in zip(teacher, student)
            )
        return value * keras.ops.convert_to_tensor(self.weight)

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
        return self.view_shapes and {"view_shapes": self.view_shapes}

    def build_from_config(self, config):
        pairs = config["view_shapes"]
        self.match([pair[0] for pair in pairs], [pair[1] for pair in pairs])
