"""Leeway side by side with what a user would run instead.  ``python -m benchmarks.peers`` is the way in."""
