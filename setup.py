"""What pyproject.toml can't say: the README as a package index shows it.

There, a link to a file of the repository needs the repository's address.
"""

import pathlib
import re

import setuptools

FILES = "https://github.com/keras-kd/keras-kd"
readme = pathlib.Path(__file__).with_name("README.md").read_text("utf-8")
readme = re.sub(r"(!\[[^]]*\])\((?!http)", rf"\1({FILES}/raw/main/", readme)
readme = re.sub(r"\]\((?!http|#)", f"]({FILES}/blob/main/", readme)
setuptools.setup(
    long_description=readme, long_description_content_type="text/markdown"
)
