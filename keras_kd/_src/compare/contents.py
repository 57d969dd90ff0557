"""What the JSON of a comparison holds, and which values entries may have."""

from keras_kd._src.checked_json import all_of
from keras_kd._src.checked_json import anything
from keras_kd._src.checked_json import boolean
from keras_kd._src.checked_json import by_name
from keras_kd._src.checked_json import checked
from keras_kd._src.checked_json import choice
from keras_kd._src.checked_json import fields
from keras_kd._src.checked_json import nothing_or
from keras_kd._src.checked_json import real
from keras_kd._src.checked_json import refuse
from keras_kd._src.checked_json import text
from keras_kd._src.checked_json import whole

COST = fields(
    parameters=whole(),
    memory_bytes=whole(),
    disk_bytes=whole(),
    flops=real,
    not_counted=all_of(text()),
    latency=real,
    batch_latency=real,
    batch=whole(),
)
MEASURED = {
    "agreement": real,
    "calibration_error": real,
    "class_accuracy": all_of(nothing_or(real)),
    "steps": whole(),
    "timed_steps": whole(),
    "seconds": real,
    "cpu_seconds": real,
    "compile_seconds": real,
    "history": by_name(all_of(real)),
}
RUN = {"way": text(), "seed": nothing_or(whole()), "metric": real}
MACHINE = {
    "backend": text(),
    "keras": text(),
    "processor": text(),
    "threads": whole(),
}
ABOUT = fields(
    {"trained_teacher": boolean},
    budget=text(),
    batch_size=whole(),
    seeds=all_of(whole()),
    samples=whole(),
    machine=fields(MACHINE),
    task=text(),
    metric=text(),
    lower_is_better=boolean,
    percent=boolean,
)


def _cost(value, place):
    if value != {}:
        COST(value, place)


RECORD = fields(
    settings=by_name(anything),
    weights=text(r"[0-9a-f]{64}", "hexadecimal digits"),
    run=fields(MEASURED, cost=_cost, **RUN),
)
REPORT = fields(
    format=choice(1),
    about=ABOUT,
    runs=all_of(fields(MEASURED, **RUN), least=1),
    costs=by_name(_cost),
)


def checked_report(content, damaged):
    """The content of a report's `to_json`, or a `ValueError` if not valid."""

    def must_be(value, place):
        REPORT(value, place)
        for number, run in enumerate(value["runs"]):
            classes = len(run.get("class_accuracy", ()))
            if classes != len(value["runs"][0].get("class_accuracy", ())):
                where = f"runs[{number}].class_accuracy"
                refuse(where, classes, "the same number as in the first run")

    return checked(content, must_be, damaged)
