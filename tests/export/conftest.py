"""OpenVINO reports to its makers that it was imported, except in CI."""

import os

os.environ["CI"] = "true"
