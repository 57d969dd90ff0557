"""Finding: what one check saw, how bad it is, and what to do."""

import dataclasses

SEVERITIES = "wrong", "look", "fine"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check of a `Diagnosis` saw, and what to do about it.

    Args:
        check: what was looked at, such as `"teacher accuracy"` or
            `"term soft_targets"`.
        severity: `"fine"`; `"look"`, where it may be meant; or `"wrong"`.
        seen: sentences with what was seen, in figures.
        remedy: sentences with what to do; empty where there is nothing.
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
        """What was seen, and the remedy: what `fit` warns of."""
        return f"{self.seen} {self.remedy}".strip()
