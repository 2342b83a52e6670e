"""The Pareto table: which length configurations are worth having, what they cost and how well they answer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from model_store.architecture import Architecture
from model_store.errors import InvalidTableError, UnknownConfigurationError, UnknownFormatVersionError
from model_store.length_config import LengthConfiguration
from model_store.skimmer import skimmer_macs
from model_store.strict_json import Fields, dump, parse, read_bytes

SUPPORTED_TABLE_VERSIONS = (1, 2, 3)
FULL = "full"

_ID = re.compile(r"c([0-9]{2,6})")


def macs(architecture: Architecture, real_length: float, kept: Sequence[float]) -> float:
    """Multiply-accumulate operations of all layers for one window, embeddings and head left out.

    Per layer ``4 n h^2 + 2 n^2 h + 2 l h f``: attention runs on the n tokens that come in, the feed-forward
    part on the l that are kept.  What the papers call FLOPs are these (Kim and Cho 2021, table 1).

    Args:
        architecture: gives layers, h and f.
        real_length: tokens of the window, special tokens included; may be a mean.
        kept: tokens kept by each layer.

    Raises:
        ValueError: not one count per layer.
    """
    if len(kept) != architecture.layers:
        raise ValueError(f"{len(kept)} counts for {architecture.layers} layers")
    hidden, total, tokens = architecture.hidden, 0.0, float(real_length)
    for left in kept:
        total += 4 * tokens * hidden**2 + 2 * tokens**2 * hidden + 2 * left * hidden * architecture.intermediate
        tokens = float(left)
    return total


def macs_at(
    architecture: Architecture, real_length: int, configuration: LengthConfiguration, entering: int | None = None
) -> float:
    """`macs` of one window of `real_length` tokens under `configuration`, and the skimmer's where it skims.

    Args:
        architecture: of the network.
        real_length: tokens of the window.
        configuration: how many of them are kept.
        entering: tokens that the first layer sees; as many as it sees in the mean if not given.
    """
    entering = configuration.input_tokens(real_length) if entering is None else entering
    skimming = skimmer_macs(real_length) if configuration.input_ratio < 1.0 else 0.0
    return skimming + macs(architecture, entering, configuration.kept_tokens(entering))


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One length configuration with its cost and quality.

    Attributes:
        macs: multiply-accumulate operations for one window of the table's mean real length.
        held_out_f1: percent, on held-out train articles; what every choice is made by.
        held_out_exact_match: percent, on the same questions.
        held_out_f1_interval: confidence interval (low, high) of `held_out_f1`.
        dev_f1: percent, on SQuAD dev; for reporting only.
        dev_exact_match: percent, on SQuAD dev; for reporting only.

    Raises:
        InvalidTableError: a cost that is not positive, or a percentage outside 0..100.
    """

    configuration: LengthConfiguration
    macs: float
    held_out_f1: float
    held_out_exact_match: float
    held_out_f1_interval: tuple[float, float] | None = None
    dev_f1: float | None = None
    dev_exact_match: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.macs) and self.macs > 0.0):
            raise InvalidTableError(f"point {self.id!r:.40}: macs must be positive, got {self.macs}")
        interval = self.held_out_f1_interval or (0.0, 0.0)
        shares = (self.held_out_f1, self.held_out_exact_match, self.dev_f1, self.dev_exact_match, *interval)
        if not all(share is None or 0.0 <= share <= 100.0 for share in shares):
            raise InvalidTableError(f"point {self.id!r:.40}: F1 and exact match must be in 0..100, got {shares}")
        if interval[0] > interval[1]:
            raise InvalidTableError(f"point {self.id!r:.40}: held_out_f1_interval is upside down")

    @property
    def id(self) -> str:
        """``full``, ``c01``, ``c02``, ..."""
        return self.configuration.id

    def dominates(self, other: ParetoPoint) -> bool:
        """Whether `other` is no better in cost and held-out F1, and worse in one."""
        no_worse = self.macs <= other.macs and self.held_out_f1 >= other.held_out_f1
        return no_worse and (self.macs < other.macs or self.held_out_f1 > other.held_out_f1)


@dataclass(frozen=True, slots=True)
class ParetoTable:
    """The points, cheapest first, `full` last.

    Attributes:
        points: strictly rising `macs`.  None but ``full`` is dominated: so held-out F1 rises along the points,
            except that ``full``, which always stays as the reference, may lie below a cheaper one.
        mean_real_length: tokens of the window that `macs` are counted for.

    Raises:
        InvalidTableError: ``full`` missing, not last or dropping tokens; an id twice, of another form or
            out of order; points unsorted or dominated; configurations of different numbers of layers.
    """

    points: tuple[ParetoPoint, ...]
    mean_real_length: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean_real_length) and self.mean_real_length > 0.0):
            raise InvalidTableError(f"mean_real_length must be positive, got {self.mean_real_length}")
        if not self.points or self.points[-1].id != FULL or not self.points[-1].configuration.is_full:
            raise InvalidTableError("the last point must be 'full' and keep every token")
        if len({len(point.configuration.ratios) for point in self.points}) > 1:
            raise InvalidTableError("the points have different numbers of layers")
        self._check_ids()
        self._check_front()

    def _check_ids(self) -> None:
        ids = [point.id for point in self.points]
        if len(set(ids)) < len(ids):
            raise InvalidTableError(f"an id occurs twice: {ids}")
        matches = [_ID.fullmatch(name) for name in ids[:-1]]
        numbers = [int(match[1]) for match in matches if match]
        if len(numbers) < len(ids) - 1 or any(a <= b for a, b in pairwise(numbers)):
            raise InvalidTableError(f"ids must be c01, c02, ... by falling cost, then full; cheapest first got {ids}")

    def _check_front(self) -> None:
        for cheaper, dearer in pairwise(self.points):
            if cheaper.macs >= dearer.macs:
                raise InvalidTableError(f"points must rise in macs: {cheaper.id} does not cost less than {dearer.id}")
            if dearer.id != FULL and cheaper.held_out_f1 >= dearer.held_out_f1:
                raise InvalidTableError(f"point {dearer.id} is dominated by {cheaper.id}")

    @property
    def full(self) -> ParetoPoint:
        """The point that keeps every token."""
        return self.points[-1]

    @property
    def layers(self) -> int:
        """Number of layers of every configuration."""
        return len(self.full.configuration.ratios)

    @property
    def frontier(self) -> tuple[ParetoPoint, ...]:
        """The points without a dominated ``full``: cost and held-out F1 both rise, the last one answers best."""
        if len(self.points) > 1 and self.points[-2].dominates(self.full):
            return self.points[:-1]
        return self.points

    def point(self, configuration_id: str) -> ParetoPoint:
        """The point of this id.

        Raises:
            UnknownConfigurationError: says which there are.
        """
        for point in self.points:
            if point.id == configuration_id:
                return point
        known = ", ".join(point.id for point in self.points)
        raise UnknownConfigurationError(f"no length configuration {configuration_id!r:.40} (there are: {known})")

    @property
    def format_version(self) -> int:
        """The lowest that says it all: 3 where a text is skimmed, 2 where tokens are exempt, else 1, which all read."""
        if self.skims:
            return 3
        return 2 if any(point.configuration.exempt_tokens for point in self.points) else 1

    @property
    def skims(self) -> bool:
        """Whether a configuration leaves out a part of the text before the first layer."""
        return any(point.configuration.input_ratio < 1.0 for point in self.points)

    def to_json(self) -> bytes:
        """The bytes of ``pareto_table.json``."""
        points = [_point_to_json(point) for point in self.points]
        value = {
            "format_version": self.format_version,
            "mean_real_length": self.mean_real_length,
            "points": points,
        }
        return dump(value, "pareto_table.json", InvalidTableError)

    def write(self, path: Path) -> None:
        """Write ``pareto_table.json``."""
        path.write_bytes(self.to_json())


def _point_to_json(point: ParetoPoint) -> dict[str, object]:
    values: dict[str, object] = {
        "id": point.id,
        "ratios": list(point.configuration.ratios),
        "macs": point.macs,
        "held_out_f1": point.held_out_f1,
        "held_out_exact_match": point.held_out_exact_match,
    }
    if point.configuration.exempt_tokens:
        values["exempt_tokens"] = point.configuration.exempt_tokens
    if point.configuration.input_ratio < 1.0:
        values["input_ratio"] = point.configuration.input_ratio
    for key in ("held_out_f1_interval", "dev_f1", "dev_exact_match"):
        if (value := getattr(point, key)) is not None:
            values[key] = value
    return values


def _point(entry: Fields, version: int) -> ParetoPoint:
    exempt = 0
    if "exempt_tokens" in entry.values:
        if version < 2:
            raise entry.fail("exempt_tokens", "absent from a table of format version 1")
        exempt = entry.integer("exempt_tokens")
    entering = 1.0
    if "input_ratio" in entry.values:
        if version < 3:
            raise entry.fail("input_ratio", f"absent from a table of format version {version}")
        entering = entry.number("input_ratio")
    try:
        configuration = LengthConfiguration(entry.text("id"), entry.numbers("ratios"), exempt, entering)
    except ValueError as error:
        raise InvalidTableError(f"{entry.where}: {error!s:.200}") from error
    interval = None
    if entry.values.get("held_out_f1_interval") is not None:
        ends = entry.numbers("held_out_f1_interval")
        if len(ends) != 2:
            raise entry.fail("held_out_f1_interval", "[low, high]")
        interval = (ends[0], ends[1])
    return ParetoPoint(
        configuration=configuration,
        macs=entry.number("macs"),
        held_out_f1=entry.number("held_out_f1"),
        held_out_exact_match=entry.number("held_out_exact_match"),
        held_out_f1_interval=interval,
        dev_f1=entry.optional_number("dev_f1"),
        dev_exact_match=entry.optional_number("dev_exact_match"),
    )


def parse_table(data: bytes, where: str) -> ParetoTable:
    """The table in `data`, the bytes of the file `where`.

    Raises:
        UnknownFormatVersionError: says which are supported.
        InvalidTableError: anything else that FORMAT.md does not allow.
    """
    top = parse(data, where, InvalidTableError)
    found = top.values.get("format_version")
    if isinstance(found, bool) or not isinstance(found, int) or found not in SUPPORTED_TABLE_VERSIONS:
        raise UnknownFormatVersionError(where, found, SUPPORTED_TABLE_VERSIONS)
    return ParetoTable(tuple(_point(entry, found) for entry in top.objects("points")), top.number("mean_real_length"))


def read_table(path: Path) -> ParetoTable:
    """Read ``pareto_table.json``.

    Raises:
        OversizedHeaderError: over 1 MiB.
        MissingFileError, PathOutsideStoreError, UnexpectedFileError: no regular file.
        UnknownFormatVersionError, InvalidTableError: see `parse_table`.
    """
    return parse_table(read_bytes(path), str(path))
