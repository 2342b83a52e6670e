from __future__ import annotations

import pytest
import torch

from trainer.precision import computing_device, computing_dtype


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert computing_device("auto").type == "cpu"
    with pytest.raises(ValueError, match="sees no GPU"):
        computing_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [computing_device(name).type for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        computing_device("tpu")


def test_precisions_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for able, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("trainer.precision.has_fast_bfloat16", lambda _, able=able: able)
        assert computing_dtype("auto", cpu) == dtype
    assert computing_dtype("bf16", cpu) == torch.bfloat16
    assert computing_dtype("f32", cpu) == torch.float32
    with pytest.raises(ValueError, match="auto, bf16 or f32"):
        computing_dtype("fp8", cpu)
