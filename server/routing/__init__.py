"""Budget-aware routing: which requests are taken, in which order they run, under which length configuration.

Pure: no HTTP, no torch, no clock of its own.  Time enters as integer nanoseconds of one monotonic clock.
"""
