from __future__ import annotations

import pytest

from reading import TextTokenizer
from tests.reading.helpers import small_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return small_tokenizer()
