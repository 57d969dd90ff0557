"""diagnose: checks a distiller with some batches before training."""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_kd._src.arguments import integer
from keras_kd._src.cache.teacher_cache import TeacherCache
from keras_kd._src.diagnosis import setup
from keras_kd._src.diagnosis.cost import can_be_cached
from keras_kd._src.diagnosis.cost import judge_cost
from keras_kd._src.diagnosis.cost import measured_cache
from keras_kd._src.diagnosis.features import judge_feature
from keras_kd._src.diagnosis.few_batches import few_batches
from keras_kd._src.diagnosis.few_batches import unchanged_random_states
from keras_kd._src.diagnosis.finding import Finding
from keras_kd._src.diagnosis.inference_mode import judge_modes
from keras_kd._src.diagnosis.input_range import AS_THEY_ARE
from keras_kd._src.diagnosis.input_range import judge_largest
from keras_kd._src.diagnosis.input_range import judge_moments
from keras_kd._src.diagnosis.input_range import judge_ranges
from keras_kd._src.diagnosis.input_range import judge_rescaling
from keras_kd._src.diagnosis.input_range import other_ranges
from keras_kd._src.diagnosis.input_range import unknown_range
from keras_kd._src.diagnosis.observing import class_table
from keras_kd._src.diagnosis.observing import mean
from keras_kd._src.diagnosis.observing import observed
from keras_kd._src.diagnosis.output_kinds import mistaken_features
from keras_kd._src.diagnosis.output_kinds import mistaken_hard_loss
from keras_kd._src.diagnosis.report import Diagnosis
from keras_kd._src.diagnosis.teacher_accuracy import class_order
from keras_kd._src.diagnosis.teacher_accuracy import teacher_accuracy
from keras_kd._src.diagnosis.teacher_pass import TeacherPass
from keras_kd._src.diagnosis.teacher_pass import first_half_twice
from keras_kd._src.diagnosis.teacher_pass import size_of
from keras_kd._src.diagnosis.temperature import judge_temperature
from keras_kd._src.diagnosis.term_sizes import Sizes
from keras_kd._src.diagnosis.term_sizes import terms
from keras_kd._src.distillation.batch import teacher_inputs
from keras_kd._src.distillation.preprocessing import Preprocessing
from keras_kd._src.distillation.teacher import StudentAsTeacher

TRIED = 4  # The number of batches on which other input ranges are tried.


class Subject(NamedTuple):
    """The distiller that is diagnosed, with private parts that checks need."""

    distiller: Any
    teacher: Any  # A `Teacher`.
    teacher_taps: list
    loss: Any  # As it was given to `compile`.
    labels_unused: bool  # Whether nothing would use labels.
    samples_return: bool  # False if samples are generated, new in each epoch.


def diagnose(subject, data, batch_size, batches):
    """The `Diagnosis` that `Distiller.diagnose` returns; see there."""
    batches = integer(batches, "batches")
    if batch_size is not None:
        batch_size = integer(batch_size, "batch_size")
    distiller = subject.distiller
    preprocessing = Preprocessing(distiller.student, distiller.teacher)
    x, y, sample_weight = data
    with unchanged_random_states(x):
        found = few_batches(
            x, y, sample_weight, batch_size, batches, preprocessing
        )
    with distiller.ready_for(found[0]), unchanged_random_states():
        findings = _findings(subject, x, found)
    samples = sum(map(size_of, found))
    return Diagnosis(distiller.name, findings, len(found), samples)


def _findings(subject, data, batches):
    seen = observed(subject.distiller, [_tensors(each) for each in batches])
    return [
        *_of_setup(subject, data, batches),
        *_of_outputs(subject, seen),
        *_of_teacher(subject, seen, batches),
        *_of_terms(subject, seen),
        *_of_features(seen, size_of(batches[0])),
        *_of_temperatures(subject, seen),
    ]


def _tensors(batch):
    return keras.tree.map_structure(_tensor, batch)


def _tensor(value):
    if value is None or value.dtype.kind in "USO":
        return value
    return ops.convert_to_tensor(value)


def _of_setup(subject, data, batches):
    student, transfers = subject.distiller.student, subject.distiller.transfers
    found = [
        *setup.quantized_student(student),
        *setup.rounded_head(student),
        *setup.ensemble_temperatures(subject.teacher.wrapped, transfers),
        *setup.texts_of_student(subject.distiller, data),
    ]
    if subject.labels_unused and batches[0][1] is not None:
        found += setup.unused_labels()
    return found


def _of_outputs(subject, seen):
    distiller, found = subject.distiller, []
    for number, transfer in enumerate(distiller.transfers):
        counts = [each.mistaken.get(str(number)) for each in seen]
        if counts[0] is None:
            continue
        wrong = list(mistaken_features(transfer, np.sum(counts, axis=0)))
        found += wrong or [_outputs_fine(transfer)]
    names = list(seen[0].kinds)
    kinds = [[each.kinds[name] for name in names] for each in seen]
    hard = distiller.hyperparameters()["hard_weight"]
    if names and (hard.number > 0.0 or hard.moves):
        found += mistaken_hard_loss(
            subject.loss,
            distiller.student,
            names,
            *np.sum(kinds, axis=0).T,
        )
    return found


def _outputs_fine(transfer):
    loss = type(transfer.loss).__name__
    return Finding(
        f"outputs, {transfer.name}",
        "fine",
        f"{loss} compares logits, and gets logits on both sides.",
    )


# --- the teacher -------------------------------------------------------------


def _of_teacher(subject, seen, batches):
    teacher, found = subject.teacher, []
    if not teacher.follows_student:
        found += _of_labels(teacher, seen)
    if isinstance(teacher, (StudentAsTeacher, TeacherCache)):
        return found  # It is not run.
    run = TeacherPass(teacher, subject.teacher_taps)
    tensors = [_tensors(each) for each in batches]
    first = run(tensors[0])  # Compiles, and is not timed.
    timed = [run.timed(each) for each in tensors]
    results = [each for each, _ in timed]
    found.append(_mode(run, first, batches[0]))
    found += _input_ranges(run, results, batches, seen)
    if not teacher.follows_student:
        seconds = float(np.median([each for _, each in timed]))
        features = [each.features for each in results]
        cached = subject.samples_return and can_be_cached(features)
        cached = measured_cache(features) if cached else None
        found.append(judge_cost(seconds, size_of(batches[0]), cached))
    return found


def _of_labels(teacher, seen):
    found = []
    for output in seen[0].classes:
        labels, predicted, classes = class_table(seen, output)
        if len(labels):
            given = labels, predicted, classes, output
            found += teacher_accuracy(teacher.name, *given)
            found.append(class_order(*given))
    return found


def _mode(run, first, batch):
    again = run.with_other_seeds(_tensors(batch)).sampled
    halves = None
    if size_of(batch) > 1:
        half = size_of(batch) // 2
        halves = run(_tensors(first_half_twice(batch))).sampled
        halves = [each[:half] for each in halves]
    return judge_modes(run.teacher.name, first.sampled, again, halves)


def _input_ranges(run, results, batches, seen):
    found = [
        judge_moments(
            run.watched[tap], tap, mean(each.moments[tap] for each in results)
        )
        for tap in results[0].moments
    ]
    inputs = [teacher_inputs(batch[0]) for batch in batches]
    if not _are_values(inputs[0]):
        return found
    low = float(min(each.min() for each in inputs))
    high = float(max(each.max() for each in inputs))
    found += judge_rescaling(run.teacher.wrapped, low, high)
    tried = []
    if isinstance(batches[0][0], np.ndarray):
        tried = _tried_ranges(run, batches[:TRIED], seen[:TRIED], low, high)
    return [*found, *tried] or [unknown_range(low, high)]


def _are_values(inputs):
    """Whether inputs are one array of numbers to compute with, as images."""
    return hasattr(inputs, "dtype") and (
        inputs.dtype.kind == "f" or inputs.dtype == np.uint8
    )


def _tried_ranges(run, batches, seen, low, high):
    """Findings from the teacher's outputs on inputs scaled to other ranges."""
    changes = {AS_THEY_ARE: lambda x: x, **other_ranges(low, high)}
    if len(changes) == 1:
        return
    results = {
        name: [
            run(_tensors((change(x.astype("float32")), *rest)))
            for x, *rest in batches
        ]
        for name, change in changes.items()
    }
    if set(seen[0].classes) == {""}:
        rows = [each.classes[""][0] for each in seen]
        shares, count = _accuracies(results, np.concatenate(rows))
        if count:
            yield judge_ranges(low, high, shares, count)
    largest = {
        name: max(np.abs(a).max() for r in each for a in r.sampled)
        for name, each in results.items()
    }
    yield from judge_largest(low, high, largest)


def _accuracies(results, labels):
    """Dict, range -> share predicted correctly; and the number of labels."""
    known = labels >= 0
    classes = {
        name: np.concatenate([r.classes[0].reshape(-1) for r in each])[known]
        for name, each in results.items()
    }
    count = int(known.sum())
    return {
        name: float((each == labels[known]).sum()) / max(count, 1)
        for name, each in classes.items()
    }, count


# --- the student -------------------------------------------------------------


def _of_terms(subject, seen):
    values = mean(each.parts for each in seen).tolist()
    gradients = mean(each.gradients for each in seen).tolist()
    hard, *sizes, _ = map(Sizes, values, gradients)
    transfers = subject.distiller.transfers
    return terms(subject.teacher, transfers, hard, sizes, sum(values))


def _of_features(seen, samples):
    return [
        judge_feature(
            side, text, [e.features[side][text] for e in seen], samples
        )
        for side in ("teacher", "student")
        for text in seen[0].features[side]
    ]


def _of_temperatures(subject, seen):
    found = []
    for number, transfer in enumerate(subject.distiller.transfers):
        key = str(number)
        if key in seen[0].confidences:
            means = mean(each.confidences[key] for each in seen)
            temperature = ops.convert_to_tensor(transfer.loss.temperature)
            temperature = float(ops.convert_to_numpy(temperature))
            found.append(judge_temperature(transfer, temperature, means))
    return found
