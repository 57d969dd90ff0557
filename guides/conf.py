"""The documentation site: sphinx-build -W guides guides/_build/html."""

import importlib.util
import os
import pathlib
import sys

BACKENDS = "jax", "torch", "tensorflow"
installed = next(filter(importlib.util.find_spec, BACKENDS))
os.environ.setdefault("KERAS_BACKEND", installed)
HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import keras_kd

project = "keras_kd"
author = copyright = "keras_kd developers"
version = release = keras_kd.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "names",
    "pages",
]
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints"]

# Guides were run when their notebooks were made: see _ext/notebooks.py.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "none"
napoleon_custom_sections = [("Call arguments", "params_style")]
napoleon_use_ivar = True
napoleon_use_rtype = False
# In docstrings a single backtick is code, as in Markdown.
default_role = "code"
add_module_names = False
nitpicky = True
# What docstrings call a type in their own words.
nitpick_ignore_regex = [("py:.*", r"(?!keras_kd).*")]

html_theme = "furo"
html_title = "keras_kd"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
# Sites that refuse robots, and addresses that exist once we are public.
linkcheck_ignore = [
    r"https://github.com/keras-kd/.*",
    r"https://colab.research.google.com/.*",
    r"https://keras-kd.readthedocs.io/.*",
]
