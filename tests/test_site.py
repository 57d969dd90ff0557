"""The documentation site: it builds, its links lead somewhere, it can be read.

It is built from `guides/` without a warning, and opened in a browser.
"""

import functools
import html.parser
import http.server
import json
import os
import pathlib
import posixpath
import queue
import shutil
import subprocess
import sys
import threading
import urllib.parse

import pytest
from support import assert_none

ROOT = pathlib.Path(__file__).parents[1]
GUIDES = ROOT / "guides"
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chrome"])), None)
# Acronym -> the page that has to be among the first that a search finds.
ACRONYMS = {
    "CRD": "contrastive",
    "CWD": "channel_wise",
    "DKD": "decoupled_kd",
    "DML": "mutual_learning",
    "FitNets": "feature_matching",
    "PKT": "probabilistic_transfer",
    "RKD": "relational_kd",
    "SimKD": "reused_head",
    "TAKD": "teacher_assistants",
    "ZSKT": "zskt",
}
pytestmark = pytest.mark.one_backend


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E"]
        + ["-d", str(folder / "trees"), str(GUIDES), str(folder / "html")],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert built.returncode == 0, built.stderr[-5000:]
    return folder / "html"


class Links(html.parser.HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.places, self.without_text = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places.add(attributes.get("id"))
        self.targets += filter(
            None, [attributes.get("href"), attributes.get("src")]
        )
        if tag == "img" and not attributes.get("alt"):
            self.without_text.append(attributes.get("src"))


def pages_of(site):
    return {
        path.relative_to(site).as_posix(): Links(path.read_text())
        for path in site.rglob("*.html")
    }


def leads_somewhere(site, pages, name, target):
    """Whether a link of a page is to a file of the site, and a place in it."""
    parts = urllib.parse.urlsplit(target)
    if parts.scheme:
        return True
    file = posixpath.normpath(
        posixpath.join(posixpath.dirname(name), parts.path)
    )
    file = file if parts.path else name
    place = parts.fragment if file in pages else ""
    return (site / file).exists() and (not place or place in pages[file].places)


def test_no_dead_link(site):
    pages = pages_of(site)
    assert_none(
        [
            (name, target)
            for name, links in pages.items()
            for target in links.targets
            if not leads_somewhere(site, pages, name, target)
        ]
    )


def test_each_figure_has_a_text(site):
    assert_none(
        [
            (name, figure)
            for name, links in pages_of(site).items()
            for figure in links.without_text
        ]
    )


def test_all_public_names_have_a_page(site):
    import keras_kd

    names = [f"keras_kd.{name}" for name in keras_kd.__all__]
    missing = [n for n in names if not (site / f"reference/{n}.html").exists()]
    assert_none(missing)


class Server(http.server.ThreadingHTTPServer):
    """The built site on this machine, and what a browser saw of it."""

    def __init__(self, site):
        handler = functools.partial(Handler, directory=site)
        super().__init__(("127.0.0.1", 0), handler)
        self.results = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_POST(self):
        size = int(self.headers["Content-Length"])
        self.server.results.put(json.loads(self.rfile.read(size)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def seen(site, tmp_path_factory):
    """What a browser shows of all pages but most of the generated ones."""
    if not CHROMIUM:
        pytest.skip("needs chromium")
    names = sorted(pages_of(site))
    generated = [n for n in names if n.startswith(("methods/", "reference/"))]
    pages = [n for n in names if n not in generated] + generated[::10]
    task = {"pages": pages, "words": list(ACRONYMS), "code": "index.html"}
    (site / "task.json").write_text(json.dumps(task))
    shutil.copy(ROOT / "tests/browser.html", site)
    profile = tmp_path_factory.mktemp("profile")
    with Server(site) as server:
        options = "--headless --no-sandbox --disable-gpu --hide-scrollbars"
        address = f"http://127.0.0.1:{server.server_port}/browser.html"
        browser = subprocess.Popen(
            [CHROMIUM, *options.split(), f"--user-data-dir={profile}"]
            + ["--remote-debugging-port=0", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield server.results.get(timeout=300)
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()


def test_pages_fit_a_phone(seen):
    wide = [p["page"] for p in seen["pages"] if p["scrolls"] > p["width"]]
    assert len(seen["pages"]) > 50
    assert_none(wide)


def test_pages_load(seen):
    assert_none([page for page in seen["pages"] if not page["title"]])
    assert_none([page for page in seen["pages"] if page["broken"]])


@pytest.mark.parametrize("acronym", ACRONYMS)
def test_search_finds(acronym, seen):
    found = " ".join(seen["found"][acronym])
    assert f"methods/{ACRONYMS[acronym]}" in found


def test_code_can_be_copied(seen):
    code, copied = seen["copied"]
    assert code and copied == code.rstrip("\n")


def test_notebooks_are_those_of_the_guides():
    pytest.importorskip("nbformat")
    checked = subprocess.run(
        [sys.executable, str(GUIDES / "_ext/notebooks.py"), "--check"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
