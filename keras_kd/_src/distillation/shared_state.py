"""State that two distillers, or teacher and student, have in common."""

import weakref

import keras
from keras import ops

from keras_kd._src.distillation import checks
from keras_kd._src.distillation.adapters import layers_of
from keras_kd._src.distillation.adapters import memories_of
from keras_kd._src.keras_compat import all_layers


class _Owner:
    """A distiller that has a part: how far it is, and whom it trains."""

    def __init__(self, training_step, student):
        self.training_step = training_step
        self.student = weakref.ref(student)
        self.told = False

    @property
    def steps(self):
        return int(ops.convert_to_numpy(self.training_step.value))


# The distillers that have each transfer, adapter, rule or part of a loss.
_owners_of = weakref.WeakKeyDictionary()


def claim(transfers, training_step, student):
    """Tells once of what another distiller has trained already.

    Called when a distiller is made and before each run: of two that are made
    of the same parts, the one that is trained later is told.

    Args:
        transfers: the distiller's transfers.
        training_step: its variable, which tells it from others.
        student: its student.

    Raises:
        ValueError: a loss has kept something of another student.
    """
    for transfer in transfers:
        for kind, part in _parts(transfer):
            owners = _owners_of.setdefault(part, [])
            own = [o for o in owners if o.training_step is training_step]
            if not own:
                own = [_Owner(training_step, student)]
                owners += own
            trained = [o for o in owners if o is not own[0] and o.steps]
            if trained and not own[0].told:
                _tell(transfer, kind, part, trained, student)
                own[0].told = True


def _parts(transfer):
    """What a transfer has that training changes, and what each is called."""
    if _keeps_state(transfer):
        yield "transfer", transfer
    for adapter in [*transfer.adapters, *transfer.teacher_adapters]:
        if adapter is not None:
            yield f"adapter {adapter.name!r}", adapter
    loss, memories = type(transfer.loss).__name__, memories_of(transfer.loss)
    for part in layers_of(transfer.loss):
        if part in memories:
            yield f"memory of {loss}", part
        elif part.moves:
            yield f"{part.name} of {loss}", part
    for rule in transfer.rules:
        if _keeps_state(rule):
            yield f"rule {type(rule).__name__}", rule


def _keeps_state(part):
    """Whether training changes more of it than the counts of inspections."""
    fixed = [each for each in part.hyperparameters() if not each.moves]
    counts = [getattr(part, "inspection", None)]
    weights = [w for each in [*fixed, *counts] if each for w in each.weights]
    return len(part.variables) > len(weights)


def _tell(transfer, kind, part, trained, student):
    steps = max(owner.steps for owner in trained)
    of_another = any(owner.student() is not student for owner in trained)
    if of_another and part in memories_of(transfer.loss):
        raise ValueError(
            f"The {kind} in transfer {transfer.name!r} holds what another "
            "student predicted, and would give it to this one as targets. "
            f"Received: one that was trained for {steps} steps in another "
            "Distiller. Make a new loss for each student."
        )
    checks.warn(
        f"The {kind} of transfer {transfer.name!r} was trained in another "
        f"Distiller already. Received: one with {steps} training steps behind "
        "it, whose weights and schedules go on from there. Make a new "
        "`Transfer` for each Distiller."
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
        # Its statistics move in training, though they are not trainable.
        if isinstance(layer, keras.layers.BatchNormalization):
            moved = layer.non_trainable_variables if layer.trainable else []
            shared += [v.path for v in moved if id(v) in known]
    if shared:
        raise ValueError(
            f"The teacher {teacher.name!r} and the student {student.name!r} "
            "share weights that are trained, so that training would change "
            f"the teacher. Received: {shared[:5]}"
            f"{' and others' if len(shared) > 5 else ''}. Freeze the shared "
            "layers (`layer.trainable = False`), or give the student copies "
            "of them, as `keras.models.clone_model` and `set_weights` make."
        )
