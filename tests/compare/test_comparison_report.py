"""The report: statistics, tables, sentences, figure, HTML and JSON."""

import html
import json
import math
import re
import shutil
import subprocess

import hostile
import numpy as np
import pytest

import keras_kd as kd

pytestmark = pytest.mark.one_backend
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chrome"])), None)
# Of Student's t distribution, 0.975, for 1 to 9 degrees of freedom.
QUANTILES = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]
COST = {
    "parameters": 2410,
    "memory_bytes": 9640,
    "disk_bytes": 10_652,
    "flops": 4736,
    "not_counted": [],
    "latency": 0.00025,
    "batch_latency": 0.0015,
    "batch": 64,
}
TEACHER = {**COST, "parameters": 85_066, "flops": 1.5e6, "latency": 0.002}


def report_of(distilled, alone, *, further=None, **about):
    count = len(alone)
    ways = {
        "teacher": [0.98] * count,
        "student alone": alone,
        "student distilled": distilled,
        **(further or {}),
    }
    defaults = {
        "budget": "30 epochs",
        "batch_size": 64,
        "seeds": list(range(count)),
        "metric": "accuracy",
        "percent": True,
        "lower_is_better": False,
        "task": "classification",
        "samples": 500,
        "machine": {
            "backend": "jax",
            "keras": "3.15.1",
            "processor": "a processor of a long name @ 2.70 GHz " * 2,
            "threads": 2,
        },
    }
    runs = [
        {"way": way, "seed": seed, "metric": value, **measured(way, value)}
        for way, values in ways.items()
        for seed, value in enumerate(values)
    ]
    costs = {way: TEACHER if way == "teacher" else COST for way in ways}
    return kd.ComparisonReport({**defaults, **about}, runs, costs)


def measured(way, value):
    slow = 2.0 if way == "student distilled" else 1.0
    return {
        "agreement": 0.5,
        "calibration_error": 0.1,
        "class_accuracy": [value, value / 2, None],
        "steps": 102,
        "timed_steps": 100,
        "seconds": slow,
        "cpu_seconds": 2 * slow,
        "compile_seconds": 0.5,
        "history": {},
    }


PAYS = report_of([0.90, 0.92, 0.94], [0.80, 0.83, 0.83])
SAME = report_of([0.80, 0.85, 0.82], [0.81, 0.83, 0.84])


@pytest.mark.parametrize("count", range(2, 11))
def test_interval_of_paired_differences(count):
    random = np.random.default_rng(count)
    one, two = random.uniform(size=(2, count))
    found = report_of(one, two).difference("student distilled")
    differences = one - two
    deviation = math.sqrt(
        sum((each - differences.mean()) ** 2 for each in differences)
        / (count - 1)
    )
    margin = QUANTILES[count - 2] * deviation / math.sqrt(count)
    assert found.n == count
    assert found.mean == pytest.approx(differences.mean())
    assert found.high - found.mean == pytest.approx(margin, rel=2e-4)
    assert found.mean - found.low == pytest.approx(margin, rel=2e-4)
    assert found.beyond == (abs(found.mean) > margin)


def test_interval_of_many_seeds():
    """The normal distribution's is the limit."""
    values = np.tile([0.1, -0.1], 5000)
    found = report_of(values, np.zeros(10_000)).difference("student distilled")
    normal = 1.959964 * 0.1 / math.sqrt(9999)
    assert found.high == pytest.approx(normal, rel=1e-3)


def test_one_seed_has_no_spread():
    report = report_of([0.9], [0.5])
    assert not report.difference("student distilled").beyond
    assert "±" not in report.sentences()[0]
    assert report.sentences()[0].startswith("With one seed the spread isn't")


def test_differences_to_a_teacher_that_was_trained_before():
    report = report_of([0.90, 0.92, 0.94], [0.80, 0.83, 0.83])
    report.runs = [
        run for run in report.runs if run["way"] != "teacher" or not run["seed"]
    ]
    found = report.difference("student distilled", "teacher")
    assert found.n == 3 and found.mean == pytest.approx(-0.06)


def test_table():
    lines = [" ".join(line.split()) for line in str(PAYS).splitlines()]
    # Differences of 10, 9 and 11: 10 ± 4.303 / sqrt(3).
    row = "student distilled 92.0 ± 2.0 +10.0 (+7.5 to +12.5)* 50.0 ± 0.0"
    assert f"{row} 10.0 ± 0.0" in lines
    assert "teacher 98.0 ± 0.0 50.0 ± 0.0 10.0 ± 0.0" in lines
    assert "student alone 2,410 9.64 kB 10.7 kB 4.74 k 0.25 1.50" in lines
    assert "teacher 85,066 9.64 kB 10.7 kB 1.50 M 2.00 1.50" in lines
    cost = "student distilled 102 2.00 ± 0.00 4.00 ± 0.00 0.50 ± 0.00"
    assert cost in lines
    # The third class has no samples.
    assert "0 98.0 82.0 92.0 (+10.0)" in lines
    assert "1 49.0 41.0 46.0 (+5.0)" in lines
    assert "2 - - -" in lines
    assert max(map(len, str(PAYS).splitlines())) <= 100
    assert "n = 3 seeds, 30 epochs, batches of 64, 500 test" in str(PAYS)


def test_sentences():
    effect, teacher, training = PAYS.sentences()
    assert effect == (
        "Distillation pays here: the student reaches 92.0 ± 2.0 % accuracy "
        "distilled and 82.0 ± 1.7 % alone; the paired difference over 3 seeds "
        "is +10.0 points (95 % interval +7.5 to +12.5), beyond the spread."
    )
    assert "2,410 parameters where the teacher has 85,066" in teacher
    assert "0.25 ms where the teacher takes 2.00 ms" in teacher
    assert teacher.endswith("they agree on 50.0 % of the test.")
    assert "2.0 times as long as one alone (20.00 and 10.00 ms)" in training
    assert SAME.sentences()[0].startswith("Distillation makes no clear")
    assert "within the spread" in SAME.sentences()[0]
    assert "More seeds" in SAME.sentences()[0]
    hurts = report_of([0.80, 0.83, 0.83], [0.90, 0.92, 0.94])
    assert hurts.sentences()[0].startswith("Distillation hurts here")


def test_sentence_of_further_ways():
    further = {"bad": [0.1, 0.2, 0.3], "good": [0.93, 0.94, 0.98]}
    report = report_of([0.90, 0.92, 0.94], [0.8, 0.8, 0.9], further=further)
    best = report.sentences()[2]
    assert best.startswith("Of the other ways, 'good' is best, with 95.0 ± 2.6")
    assert "against 'student distilled', the paired difference" in best


def test_an_error_is_better_when_lower():
    report = report_of(
        [0.21, 0.22, 0.23],
        [0.51, 0.53, 0.54],
        metric="mean_absolute_error",
        percent=False,
        lower_is_better=True,
        task="regression",
    )
    effect = report.sentences()[0]
    assert effect.startswith("Distillation pays here: the student reaches 0.22")
    assert "is -0.3067 (95 % interval" in effect
    assert "by class" not in str(report)


def test_nothing_is_said_of_what_is_not_finite():
    report = report_of([0.90, math.nan, 0.94], [0.8, 0.8, 0.9])
    assert not report.difference("student distilled").beyond
    effect = report.sentences()[0]
    assert effect.startswith("Nothing can be said: 'student distilled'")
    assert "with 1 of 3 seeds" in effect
    assert "nan" in str(report)


def test_many_classes():
    report = report_of([0.9, 0.9], [0.8, 0.8])
    for run in report.runs:
        wanted = run["way"] == "student distilled"
        run["class_accuracy"] = [
            0.5 + 0.01 * each * wanted for each in range(30)
        ]
    assert ": 10 of 30 that change most" in str(report)
    found = re.findall(r"\n(\d+) +50\.0 +50\.0 +\d+", str(report))
    assert found == list(map(str, range(20, 30)))


def test_json():
    again = kd.ComparisonReport.from_json(PAYS.to_json())
    assert str(again) == str(PAYS) and again.runs == PAYS.runs
    with pytest.raises(ValueError, match='Received: \'{"runs"'):
        kd.ComparisonReport.from_json(json.dumps({"runs": []}))


def test_json_of_anyone():
    content, harmless = json.loads(PAYS.to_json()), 0
    for seed in range(2000):
        generator = hostile.seeded(seed)
        text = json.dumps(hostile.change(content, generator))
        try:
            report = kd.ComparisonReport.from_json(text)
            report.values(report.ways[0], "class_accuracy")
            harmless += 1
        except ValueError as error:
            assert type(error) is ValueError and "Received: " in str(error)
    assert 0 < harmless < 1000


def test_plot(tmp_path):
    figure = PAYS.plot()
    left, right = figure.axes
    dots = [line.get_xdata() for line in left.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots[2], [90.0, 92.0, 94.0])
    ends = right.lines[0].get_xdata()
    np.testing.assert_allclose(ends, [7.516, 12.484], atol=1e-2)
    figure.savefig(tmp_path / "report.png")


def test_names_that_do_not_exist():
    with pytest.raises(ValueError, match="`way` must be one of.*'teacher'"):
        PAYS.values("student")


LONG = {"a way of a very long name with <tags> & more" * 2: [0.5, 0.6, 0.7]}


def page_in_frame(page, width):
    """A page in a frame as wide as a phone, and what its layout is."""
    script = """
    onload = () => {
      const inner = document.querySelector("iframe").contentDocument;
      const root = inner.documentElement;
      const wide = [...inner.body.querySelectorAll("*")].filter(
        each => !each.closest(".table")
          && each.getBoundingClientRect().right > root.clientWidth + 1);
      document.title = JSON.stringify({
        width: root.clientWidth, scrolls: root.scrollWidth,
        wide: wide.map(each => each.tagName),
        tables: [...inner.querySelectorAll(".table")].map(
          each => [each.clientWidth, each.scrollWidth]),
        dots: inner.querySelectorAll("circle").length,
        text: inner.body.innerText.length});
    }"""
    frame = (
        f'<iframe width="{width}" height="700" style="border:0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )
    return f"<title></title><script>{script}</script>{frame}"


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
def test_html_in_a_browser(tmp_path):
    report = report_of([0.90, 0.92, 0.94], [0.8, 0.8, 0.9], further=LONG)
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    (tmp_path / "phone.html").write_text(page_in_frame(page, 360), "utf-8")
    options = "--headless --no-sandbox --disable-gpu --hide-scrollbars"
    shown = subprocess.run(
        [
            CHROMIUM,
            *options.split(),
            "--virtual-time-budget=2000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            (tmp_path / "phone.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", shown.stdout)[1]
    found = json.loads(html.unescape(title))
    assert found["width"] == found["scrolls"] == 360
    assert found["wide"] == []
    # Wide tables scroll by themselves.
    assert len(found["tables"]) == 5
    assert all(own <= 360 for own, _ in found["tables"])
    assert found["tables"][0][1] > 360
    assert found["dots"] == 12 and found["text"] > 1000


def test_html_loads_nothing(tmp_path):
    report = report_of([0.90, 0.92, 0.94], [0.8, 0.8, 0.9], further=LONG)
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", page)
    assert "&lt;tags&gt; &amp; more" in page and "<tags>" not in page
    for sentence in report.sentences():
        assert html.escape(sentence) in page
