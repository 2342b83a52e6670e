"""bfloat16 training with float32 master weights.

Under autocast a CPU spends a third of a step on casts (measured: 19.6 against 27.1 windows/s, 32 windows of
168 tokens, 2 cores with AVX512-BF16).  Here the encoder is kept twice: float32 masters, which the optimizer
sees, and a bfloat16 copy, which computes.  Embeddings stay in float32, because their gradients sum thousands
of small terms.  Mixed precision training, Micikevicius et al. 2018, section 3.1.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from trainer.network import LengthAdaptiveMiniLM


class WorkingCopy:
    """The network that computes, beside the float32 network that is trained.

    Args:
        master: float32.
        dtype: of the copy, its embeddings excepted.
        apart: copy even where no lower precision is used.

    Attributes:
        network: run this one.  It is `master` itself where no lower precision is used, unless set apart.
    """

    def __init__(self, master: LengthAdaptiveMiniLM, dtype: torch.dtype, *, apart: bool = False) -> None:
        self._pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        self.network = master
        if dtype == torch.float32 and not apart:
            return
        shared = {id(parameter): parameter for parameter in master.embeddings.parameters()}
        self.network = copy.deepcopy(master, dict[int, Any](shared))
        for part in (self.network.layers, self.network.head):
            part.to(dtype)
        for original, working in zip(master.parameters(), self.network.parameters(), strict=True):
            if id(original) not in shared:
                self._pairs.append((original, working))

    def pull_gradients(self) -> None:
        """Move gradients from the copy to the masters, as float32, and add them to what is there.

        Called after each of several backward passes, it keeps their sum out of bfloat16.
        """
        for original, working in self._pairs:
            if working.grad is not None:
                gradient = working.grad.float()
                original.grad = gradient if original.grad is None else original.grad.add_(gradient)
                working.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the masters into the copy."""
        for original, working in self._pairs:
            working.copy_(original)


def computing_device(name: str) -> torch.device:
    """The device called ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.

    Raises:
        ValueError: another name, or ``cuda`` where torch sees no GPU.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device cuda was asked for, but torch {torch.__version__} sees no GPU here; cpu works")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def computing_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What ``auto`` (bfloat16 where hardware multiplies it), ``bf16`` or ``f32`` means on `device`.

    Raises:
        ValueError: another name.
    """
    if precision not in {"auto", "bf16", "f32"}:
        raise ValueError(f"precision must be auto, bf16 or f32, got {precision!r}")
    fast = precision == "bf16" or (precision == "auto" and has_fast_bfloat16(device))
    return torch.bfloat16 if fast else torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
