"""Compiled code that does the same sooner, where there is some.

Code that has not run for some milliseconds, as long as an inference takes, runs several times as slowly when it runs
again: the caches and branch predictors have forgotten it.  Of Python and numpy there is more to forget.
"""

from __future__ import annotations

from ctypes import CDLL, POINTER, Structure, c_char_p, c_double, c_int, c_int32, c_void_p


class BestSpan(Structure):
    """The best answer span of a window.

    Attributes:
        logit: start logit plus end logit.
        total: of exp(logit - the best logit) over all admissible spans.
        first: context token of the window that it starts at.
        more: tokens that follow.
    """

    _fields_ = (("logit", c_double), ("total", c_double), ("first", c_int32), ("more", c_int32))


class ReadingKernels:
    """What this package calls of the library made from ``server/engine/kernels``; see `native.cpp` there."""

    def __init__(self, library: CDLL) -> None:
        """Say what its functions take.

        Args:
            library: of the version that fits; who loads it sees to that.
        """
        self.create_pieces = library.leeway_pieces_create
        self.create_pieces.argtypes = (c_char_p, c_void_p, c_void_p, c_int, c_int, c_int, c_int)
        self.create_pieces.restype = c_void_p
        self.split = library.leeway_pieces_split
        self.split.argtypes = (c_void_p, c_char_p, c_int, c_void_p)
        self.destroy_pieces = library.leeway_pieces_destroy
        self.destroy_pieces.argtypes, self.destroy_pieces.restype = (c_void_p,), None
        self.best_span = library.leeway_best_span
        self.best_span.argtypes = (c_void_p, c_void_p, c_int, c_int, c_int, c_int, POINTER(BestSpan))
