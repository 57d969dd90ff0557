"""Diagnosis: the findings before training, as a table."""

import dataclasses
import textwrap

from keras_kd._src.diagnosis.finding import SEVERITIES
from keras_kd._src.naming import batches_text

WIDTH = 80
INDENT = 8  # Of the text under a finding's title.


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The findings of `Distiller.diagnose`; `print` shows them as a table.

    The most severe come first. A check that does not apply, such as the
    teacher's accuracy without labels, is left out or says so.

    Args:
        name: the distiller's name.
        findings: list of `Finding`.
        batches: the number of batches that were read.
        samples: the number of samples in them.

    Attributes:
        ok: whether no finding is `"wrong"`; some may be `"look"`.

    Example:
    >>> from keras_kd.diagnosis import Finding
    >>> found = Finding("term hint", "look", "Its gradient is 0.", "Raise it.")
    >>> report = Diagnosis("distiller", [found], batches=1, samples=32)
    >>> print(report)
    Diagnosis of 'distiller', by 1 batch, 32 samples: 1 to look at.
    look    term hint
            Its gradient is 0.
            -> Raise it.
    >>> report.ok, report.of("term hint").severity
    (True, 'look')
    """

    name: str
    findings: list
    batches: int
    samples: int

    @property
    def ok(self):
        """Whether no finding is `"wrong"`."""
        return not any(each.severity == "wrong" for each in self.findings)

    def of(self, check):
        """The finding of a check, or None.

        Args:
            check: the check's name, such as `"teacher accuracy"`.
        """
        found = (each for each in self.findings if each.check == check)
        return next(found, None)

    def __str__(self):
        order = SEVERITIES.index
        findings = sorted(self.findings, key=lambda each: order(each.severity))
        lines = textwrap.wrap(self._title(), WIDTH)
        for finding in findings:
            lines.append(f"{finding.severity:{INDENT}}{finding.check}")
            lines += _wrapped(finding.seen, "")
            if finding.remedy:
                lines += _wrapped(finding.remedy, "-> ")
        return "\n".join(lines)

    def _title(self):
        found = [each.severity for each in self.findings]
        counts = [
            f"{found.count(severity)} {text}"
            for severity, text in zip(SEVERITIES, ("wrong", "to look at"))
            if severity in found
        ]
        return (
            f"Diagnosis of {self.name!r}, by {batches_text(self.batches)}, "
            f"{self.samples:,} samples: {', '.join(counts) or 'all fine'}."
        )


def _wrapped(text, mark):
    indent = " " * INDENT
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent + mark,
        subsequent_indent=indent + " " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )
