"""TeacherBySample: several teachers, one of which is used for each sample."""

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import received
from keras_kd._src.distillation.batch import Predictions
from keras_kd._src.distillation.teacher import Teacher
from keras_kd._src.distillation.teacher import as_teacher
from keras_kd._src.fingerprint import digest
from keras_kd._src.naming import batches_text
from keras_kd._src.specs import same_shape


class TeacherBySample(Teacher):
    """Several teachers, one of which is used for each sample (multi-teacher).

    For teachers that are each trained on a part of the task, such as a language
    or a subject: each sample uses the teacher of its part, and one student
    learns the whole task. A number in the inputs selects the teacher:

        teacher = TeacherBySample({"code": first, "prose": second})
        x["teacher"] = teacher.numbers(["code", "prose", "code"])
        distiller = Distiller(teacher, student)

        features = features of teachers[x["teacher"]]

    In the compiled step every teacher runs on every batch, and the predictions
    that are not selected are discarded: n teachers take n times the time of
    one, and memory for two of their outputs. A tap must name a layer that all
    teachers have. To average the teachers on each sample, see `Ensemble`.

    Args:
        teachers: dict of at least two teachers by name, of any kind that a
            `Distiller` takes, but not one that follows the student. All must
            take the same inputs, and have features of the same shapes.
        column: key of the inputs (a dict) with the number of each sample's
            teacher: its position in `teachers`, counted from 0; integers of
            shape `(batch,)` or `(batch, 1)`. The models don't get this entry,
            unless they have an input of that name.
        name: the name in errors.

    Raises:
        ValueError: `teachers` is not such a dict; in training, the column is
            missing, or has a number that is not a teacher's.

    Example:
    >>> import keras_kd as kd
    >>> def model():
    ...     x = keras.Input((4,), name="x")
    ...     return keras.Model(x, keras.layers.Dense(3)(x))
    >>> teacher = TeacherBySample({"code": model(), "prose": model()})
    >>> number = teacher.numbers(["code", "prose", "prose", "code"])
    >>> number.tolist()
    [0, 1, 1, 0]
    >>> distiller = kd.Distiller(teacher, model())
    >>> distiller.compile("sgd", loss=None)
    >>> x = {"x": ops.ones((4, 4)), "teacher": number}
    >>> history = distiller.fit(x, verbose=0)
    """

    def __init__(self, teachers, *, column="teacher", name=None):
        several = isinstance(teachers, dict) and len(teachers) > 1
        if not several:
            raise ValueError(
                "Argument `teachers` must be a dict of two or more teachers, "
                "by name (a single one is a teacher by itself). "
                + received("teachers", teachers)
            )
        self.teachers = {k: as_teacher(each) for k, each in teachers.items()}
        self.column, self.name = column, name or "teacher_by_sample"
        for key, each in self.teachers.items():
            if each.follows_student:
                raise ValueError(
                    "A teacher that follows the student can't be one of "
                    f"several. Received: {key!r}, {each.describe()}. Use it "
                    "alone, as the teacher of a `Distiller`."
                )

    def numbers(self, names):
        """The numbers of teachers, for the column of the data.

        Args:
            names: list of teachers' names, one per sample.

        Returns:
            int32 array of shape `(samples,)`.

        Raises:
            ValueError: there is no such teacher.
        """
        known = {key: number for number, key in enumerate(self.teachers)}
        unknown = sorted({repr(each) for each in names if each not in known})
        if unknown:
            raise ValueError(
                f"There is no such teacher. Received: {', '.join(unknown)}. "
                f"Use the teachers' names: {list(known)}."
            )
        return np.array([known[each] for each in names], "int32")

    # --- one batch ----------------------------------------------------------

    def predictions(self, batch, taps, state_mapping=None, training=True):
        number = self._number(batch.inputs)
        chosen = None
        for place, each in enumerate(self._all):
            found = each.predictions(batch, taps, state_mapping, training)
            chosen = _taken(found, number == place, chosen)
        return Predictions(*chosen)

    @property
    def _all(self):
        return list(self.teachers.values())

    def _number(self, inputs):
        has = isinstance(inputs, dict) and self.column in inputs
        number = ops.convert_to_tensor(inputs[self.column]) if has else None
        dtype = has and keras.backend.standardize_dtype(number.dtype)
        if not has or "int" not in dtype:
            keys = list(inputs) if isinstance(inputs, dict) else "no dict"
            came = f"it of type {dtype}" if has else f"{keys} as inputs"
            raise ValueError(
                "The inputs must contain the number of each sample's teacher. "
                f"Received: {came}, expected integers under {self.column!r}, "
                f"the positions of the teachers in {list(self.teachers)}. Make "
                "them with `teacher.numbers(names)`."
            )
        return ops.reshape(number, (-1,))

    def activation_at(self, tap, inputs):
        names = [each.activation_at(tap, inputs) for each in self._all]
        if len(set(names)) > 1:
            found = dict(zip(self.teachers, names))
            raise ValueError(
                "All teachers must end in the same activation, so that one "
                f"loss fits all. Received: {found} at {tap.text!r}."
            )
        return names[0]

    # --- before the first batch ---------------------------------------------

    def check_student(self, student):
        for each in self._all:
            each.check_student(student)

    def check_taps(self, taps):
        for each in self._all:
            each.check_taps(taps)

    def check_output(self, metrics):
        for each in self._all:
            each.check_output(metrics)

    def input_spec(self):
        return self._all[0].input_spec()

    def feature_specs(self, taps, inputs):
        specs = [each.feature_specs(taps, inputs) for each in self._all]
        for tap in taps:
            shapes = [
                [spec.shape for spec in keras.tree.flatten(each[tap.text])]
                for each in specs
            ]
            if not all(_same(shapes[0], other) for other in shapes):
                found = dict(zip(self.teachers, shapes))
                raise ValueError(
                    "The teachers of a TeacherBySample must have features of "
                    f"the same shapes. Received: {found} at "
                    f"{tap.text or 'output'!r}."
                )
        return specs[0]

    @property
    def variables(self):
        # Teachers may share layers.
        every = [variable for each in self._all for variable in each.variables]
        return list({id(variable): variable for variable in every}.values())

    @property
    def supports_jit(self):
        return all(each.supports_jit for each in self._all)

    @property
    def takes_labels(self):
        return any(each.takes_labels for each in self._all)

    @property
    def needs_data(self):
        return any(each.needs_data for each in self._all)

    # --- what is saved of it ------------------------------------------------

    def fingerprint(self):
        return digest([], (each.fingerprint() for each in self._all))

    def describe(self):
        parts = [f"{k}: {each.describe()}" for k, each in self.teachers.items()]
        return f"by sample, {', '.join(parts)}"

    def not_finite(self, batches, taps, transfer):
        return ValueError(
            f"The teacher {self.name!r} predicted values that are not finite, "
            f"or a sample has no teacher. Received: NaN or infinity in "
            f"{batches_text(batches)}, at {taps} (transfer {transfer!r}). The "
            f"column {self.column!r} must hold numbers from 0 to "
            f"{len(self.teachers) - 1}; else check the teachers' weights and "
            "their input scaling."
        )


def _taken(found, wanted, chosen):
    """Values where wanted, elsewhere those chosen so far, or NaN."""

    def take(value, before):
        value = ops.convert_to_tensor(value)
        shape = (-1, *[1] * (len(value.shape) - 1))
        nothing = ops.cast(float("nan"), value.dtype)
        before = nothing if chosen is None else before
        return ops.where(ops.reshape(wanted, shape), value, before)

    values = tuple(found)
    return keras.tree.map_structure(take, values, chosen or values)


def _same(shapes, others):
    same_number = len(shapes) == len(others)
    return same_number and all(map(same_shape, shapes, others))
