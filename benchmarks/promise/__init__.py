"""What the server promises, measured on the real process: budgets kept, load followed, little time spent on deciding.

`python -m benchmarks.promises` is the way in.
"""
