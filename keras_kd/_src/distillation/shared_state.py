"""Checks for state shared by two distillers, or by teacher and student."""

import weakref

import keras
from keras import ops

from keras_kd._src.distillation import checks
from keras_kd._src.distillation.adapters import layers_of
from keras_kd._src.distillation.adapters import memories_of
from keras_kd._src.keras_compat import all_layers


class _Owner:
    """A distiller that uses a part: its training step and its student."""

    def __init__(self, training_step, student):
        self.training_step = training_step
        self.student = weakref.ref(student)
        self.warned = False

    @property
    def steps(self):
        return int(ops.convert_to_numpy(self.training_step))


# The distillers that use each adapter, rule, weight or part of a loss.
_owners_of = weakref.WeakKeyDictionary()


def claim(teacher, transfers, training_step, student):
    """Warns once of parts that another distiller has trained already.

    Called when a distiller is made and before each run: of two distillers with
    the same parts, the one that is trained later warns.

    Args:
        teacher: the distiller's `Teacher`.
        transfers: its transfers.
        training_step: its variable, which identifies the distiller.
        student: its student.

    Raises:
        ValueError: a loss keeps predictions of another student.
    """
    for kind, part, is_memory in _parts(teacher, transfers):
        owners = _owners_of.setdefault(part, [])
        own = [o for o in owners if o.training_step is training_step]
        if not own:
            own = [_Owner(training_step, student)]
            owners += own
        trained = [o for o in owners if o is not own[0] and o.steps]
        if trained and not own[0].warned:
            steps = max(owner.steps for owner in trained)
            if is_memory and any(o.student() is not student for o in trained):
                raise _of_another_student(kind, steps)
            _warn_of_reuse(kind, steps)
            own[0].warned = True


def _parts(teacher, transfers):
    """Yields each part that training changes: name, part, if a memory."""
    follows = teacher.follows_student and teacher.wrapped is not teacher
    if follows:
        yield f"teacher {teacher.name!r}", teacher.wrapped, False
    for transfer in transfers:
        of = f"of transfer {transfer.name!r}"
        weight, *_ = transfer.hyperparameters()
        if weight.moves:
            yield f"weight {of}", weight, False
        for adapter in [*transfer.adapters, *transfer.teacher_adapters]:
            if adapter is not None:
                yield f"adapter {adapter.name!r} {of}", adapter, False
        memories = memories_of(transfer.loss)
        for part in layers_of(transfer.loss):
            is_memory = part in memories
            if is_memory or part.moves:
                name = "memory" if is_memory else part.name
                loss = type(transfer.loss).__name__
                yield f"{name} of {loss} {of}", part, is_memory
        for rule in transfer.rules:
            if _keeps_state(rule):
                yield f"rule {type(rule).__name__} {of}", rule, False


def _keeps_state(rule):
    """Whether training changes a rule."""
    fixed = [each for each in rule.hyperparameters() if not each.moves]
    return len(rule.variables) > sum(len(each.variables) for each in fixed)


def _of_another_student(kind, steps):
    return ValueError(
        f"The {kind} holds predictions of another student, which would be "
        "the targets of this one. Received: one that was trained for "
        f"{steps} steps in another Distiller. Make a new loss for each student."
    )


def _warn_of_reuse(kind, steps):
    checks.warn(
        f"The {kind} was trained in another Distiller already. Received: one "
        f"with {steps} training steps, whose weights and schedules would "
        "continue from there. Make a new one for each Distiller."
    )


def check_teacher_is_left(teacher, student, trainable):
    """Raises a `ValueError` if training would change the teacher.

    Args:
        teacher: a `Teacher`.
        student: the student.
        trainable: the variables that training changes.
    """
    known = {id(variable) for variable in teacher.variables}
    shared = [v.path for v in trainable if id(v) in known]
    for layer in all_layers(student):
        # Its statistics change in training, though they are not trainable.
        if isinstance(layer, keras.layers.BatchNormalization):
            changed = layer.non_trainable_variables if layer.trainable else []
            shared += [v.path for v in changed if id(v) in known]
    if shared:
        raise ValueError(
            f"The teacher {teacher.name!r} and the student {student.name!r} "
            "share weights that are trained, so that training would change "
            f"the teacher. Received: {shared[:5]}"
            f"{' and others' if len(shared) > 5 else ''}. Freeze the shared "
            "layers (`layer.trainable = False`), or give the student copies "
            "of them, made with `keras.models.clone_model` and `set_weights`."
        )
