"""A report as one HTML file, readable on a phone, too."""

import html

import numpy as np

from keras_kd._src.compare import rows

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto;
  padding: 0.75rem; overflow-wrap: anywhere; color: #222; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.result { background: #eef4fb; border-left: 4px solid #1f77b4;
  padding: 0.1rem 0.75rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.note { color: #555; font-size: 0.9rem; }
svg { display: block; width: 100%; max-width: 40rem; background: #f6f6f6; }
circle { fill: #1f77b4; fill-opacity: 0.7; }
path { stroke: #222; stroke-width: 2; }
"""
WIDTH = 340  # The drawing's width, in its own units.


def page_of(report):
    """The whole page, as text."""
    tables = "".join(_section(*table) for table in rows.tables(report))
    found = "".join(f"<p>{html.escape(s)}</p>" for s in report.sentences())
    notes = "<br>".join(map(html.escape, rows.notes(report)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, '
        'initial-scale=1">\n'
        f"<title>Was distillation worth it?</title><style>{STYLE}</style>"
        "</head>\n<body><h1>Was distillation worth it?</h1>\n"
        f'<div class="result">{found}</div>\n'
        f"<h2>Each seed, and the mean</h2>{_drawing(report)}{tables}\n"
        f"{_section(*_all_runs(report))}"
        f'<p class="note">{notes}</p></body></html>\n'
    )


def _section(title, titles, cells):
    head = "".join(f"<th>{html.escape(each)}</th>" for each in titles)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
        for row in cells
    )
    return (
        f'<h2>{html.escape(title)}</h2><div class="table" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def _all_runs(report):
    """A row for each run, so that nothing is hidden in a mean."""
    rows_ = [
        [
            run["way"],
            "" if run["seed"] is None else str(run["seed"]),
            rows.value_text(report, [run["metric"]]),
        ]
        for run in report.runs
    ]
    return "Each run", ["", "seed", report.about["metric"]], rows_


def _drawing(report):
    """A dot for each seed and a bar at the mean, with the same scale."""
    values = {way: report.values(way) for way in report.ways}
    finite = np.concatenate(list(values.values()))
    finite = finite[np.isfinite(finite)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    width = (high - low) or 1.0

    def place(value):
        return round(10 + (WIDTH - 20) * float(value - low) / width, 1)

    lines = []
    for way, found in values.items():
        text = f"{way}: {rows.value_text(report, found)}"
        marks = [
            f'<circle cx="{place(each)}" cy="12" r="5"/>'
            for each in found[np.isfinite(found)]
        ]
        if np.isfinite(found).all():
            marks.append(f'<path d="M{place(found.mean())} 2V22"/>')
        lines.append(
            f'<div class="note">{html.escape(text)}</div>'
            f'<svg viewBox="0 0 {WIDTH} 24" aria-hidden="true">'
            f"{''.join(marks)}</svg>"
        )
    return "".join(lines)
