"""Write the exact versions of all that the images hold: what pip would install today for pyproject.toml."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

HEAD = "# What the images hold, exactly.  After a change of pyproject.toml: make image-constraints\n"


def main() -> None:
    """Resolve, install nothing, and write the file that the command line names."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["loadtest"]]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    report = json.loads(subprocess.run([*command, *wanted], check=True, stdout=subprocess.PIPE).stdout)  # noqa: S603 - our own list
    found = [each["metadata"] for each in report["install"]]
    lines = sorted(f"{re.sub('[-_.]+', '-', each['name']).lower()}=={each['version']}\n" for each in found)
    Path(sys.argv[1]).write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
