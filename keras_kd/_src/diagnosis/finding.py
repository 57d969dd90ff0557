"""Finding: the result of one check, with its severity and a remedy."""

import dataclasses

SEVERITIES = "wrong", "look", "fine"


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check of a `Diagnosis`, and what to do about it.

    Args:
        check: name of the check, such as `"teacher accuracy"` or
            `"term soft_targets"`.
        severity: `"fine"`; `"look"`, for a setting that is unusual but may be
            intended; or `"wrong"`.
        seen: sentences with what was found, in figures.
        remedy: sentences with what to do; empty if nothing.
        figures: dict of the numbers behind it, by name.

    Example:
    >>> finding = Finding("term hint", "look", "It is 0.", "Raise it.")
    >>> finding.severity, finding.text
    ('look', 'It is 0. Raise it.')
    """

    check: str
    severity: str
    seen: str
    remedy: str = ""
    figures: dict = dataclasses.field(default_factory=dict)

    @property
    def text(self):
        """The result and the remedy in one text, as in warnings of `fit`."""
        return f"{self.seen} {self.remedy}".strip()
