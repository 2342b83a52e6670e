"""``python -m trainer``: the stages, each of which reads and writes one run folder."""

from __future__ import annotations

from trainer.cli import main

if __name__ == "__main__":
    main()
