"""From trained weights to a published artifact: quantize, draft, measure, publish."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from model_store import (
    Artifact,
    Licence,
    ModelDescription,
    ModelStore,
    ParetoPoint,
    ParetoTable,
    Quantization,
    ReadingDefaults,
    StoredVersion,
    Tensors,
    TokenizerInfo,
    full_configuration,
    macs,
    write_tensors,
)
from reading import QuestionScores, SquadRecord, TextTokenizer
from trainer.card import model_card
from trainer.evaluation import engines_running, evaluate_questions
from trainer.features import Features
from trainer.grids import ActivationCalibration, Grids, calibrate
from trainer.network import LengthAdaptiveMiniLM
from trainer.quantize import float_tensors, int8_tensors


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """Attributes are the command line's options of the same names.

    Attributes:
        scheme: ``int8``, or ``none`` for the float twin.
        calibration: of the activations, under ``int8``.
        engine: measures F1.
        threads: so many of that engine side by side, of one thread each; 0 takes all.
    """

    scheme: str = "int8"
    calibration: ActivationCalibration = field(default_factory=ActivationCalibration)
    engine: str = "openvino"
    threads: int = 0


@dataclass(frozen=True, slots=True)
class ExportInputs:
    """What an artifact is made from.

    Attributes:
        network: trained, float32.
        features: training windows, for activation calibration.
        tokenizer: path of a ``tokenizer.json``.
        held_out: questions that give the expected F1.
        dev: questions for the report only; none where they are not to be touched.
        training: provenance for the manifest.
        licences: for the manifest.
        trained_on: grids of quantization-aware training, which take the place of a calibration; None without it.
    """

    network: LengthAdaptiveMiniLM
    features: Features
    tokenizer: Path
    held_out: Sequence[SquadRecord]
    dev: Sequence[SquadRecord]
    training: Mapping[str, object]
    licences: tuple[Licence, ...]
    trained_on: Grids | None = None


def make_tensors(inputs: ExportInputs, settings: ExportSettings) -> Tensors:
    """Tensors of the wanted scheme.

    Raises:
        ValueError: another calibration is asked for than the weights were trained on.
    """
    network = inputs.network.cpu().eval()
    if settings.scheme == "none":
        return float_tensors(network)
    grids = inputs.trained_on
    if grids is None:
        grids = calibrate(network, inputs.features, settings.calibration)
    elif settings.calibration not in (ActivationCalibration(), grids.calibration):
        raise ValueError(f"the weights were trained on {grids.calibration}, but {settings.calibration} was asked for")
    return int8_tensors(network, grids.inputs)


def export(inputs: ExportInputs, settings: ExportSettings, store: ModelStore, name: str, drafts: Path) -> StoredVersion:
    """Publish `name` in `store`, with figures measured on the very artifact.

    A draft with provisional figures is published in `drafts`, loaded as a server would load it, measured,
    and its tensors are published again with the figures.

    Raises:
        ModelStoreError, OSError, EngineUnavailableError: nothing is published.
    """
    tensors = make_tensors(inputs, settings)
    shutil.rmtree(drafts, ignore_errors=True)
    maker = _Maker(name, inputs, settings, tensors)
    try:
        draft = maker.publish(ModelStore(drafts), Figures(Measured(0.0, 0.0, 0), None))
        artifact = ModelStore(drafts).load(f"{name}@{draft.version}")
        held_out = _measure(artifact, settings, inputs.held_out)
        dev = _measure(artifact, settings, inputs.dev) if inputs.dev else None
        return maker.publish(store, Figures(held_out, dev))
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """F1 and exact match in percent over a number of questions."""

    f1: float
    exact_match: float
    questions: int

    @classmethod
    def of(cls, scores: QuestionScores) -> Measured:
        """Means in percent, two digits."""
        f1, exact_match = (round(100 * float(values.mean()), 2) for values in (scores.f1, scores.exact_match))
        return cls(f1, exact_match, len(scores.f1))


def _measure(artifact: Artifact, settings: ExportSettings, questions: Sequence[SquadRecord]) -> Measured:
    full = full_configuration(artifact.manifest.architecture.layers)
    with engines_running(artifact, settings.engine, settings.threads) as engines:
        return Measured.of(evaluate_questions(artifact, engines, full, questions))


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of an artifact."""

    held_out: Measured
    dev: Measured | None


@dataclass(frozen=True, slots=True)
class _Maker:
    """Writes artifacts that differ in their figures alone."""

    name: str
    inputs: ExportInputs
    settings: ExportSettings
    tensors: Tensors

    def publish(self, store: ModelStore, figures: Figures) -> StoredVersion:
        description = self._description(figures)

        def build(folder: Path) -> ModelDescription:
            architecture = self.inputs.network.architecture
            write_tensors(folder / "model.safetensors", self.tensors, architecture, self.settings.scheme)
            shutil.copyfile(self.inputs.tokenizer, folder / "tokenizer.json")
            self._table(figures).write(folder / "pareto_table.json")
            (folder / "MODEL_CARD.md").write_text(model_card(self.name, description), encoding="utf-8")
            return description

        return store.publish(self.name, build)

    def _table(self, figures: Figures) -> ParetoTable:
        architecture = self.inputs.network.architecture
        length = float(self.inputs.features.lengths.mean())
        cost = macs(architecture, length, [length] * architecture.layers)
        full = full_configuration(architecture.layers)
        point = ParetoPoint(full, cost, figures.held_out.f1, figures.held_out.exact_match)
        if figures.dev is not None:
            point = replace(point, dev_f1=figures.dev.f1, dev_exact_match=figures.dev.exact_match)
        return ParetoTable((point,), round(length, 2))

    def _description(self, figures: Figures) -> ModelDescription:
        architecture = self.inputs.network.architecture
        special = TextTokenizer.from_file(self.inputs.tokenizer).special
        longest = min(384, architecture.positions)
        metrics: dict[str, object] = {"engine": self.settings.engine, "held_out": _figures(figures.held_out)}
        if figures.dev is not None:
            metrics["squad_dev_1_1"] = _figures(figures.dev)
        return ModelDescription(
            architecture=architecture,
            tokenizer=TokenizerInfo(True, special.cls_id, special.sep_id, special.pad_id),  # noqa: FBT003 - lowercase
            reading=ReadingDefaults(max_length=longest, overlap=128, max_question=64, max_answer=30),
            quantization=Quantization(self.settings.scheme, self._quantization()),
            metrics=metrics,
            training={**self.inputs.training, "commit": _commit(), "machine": _machine()},
            licences=self.inputs.licences,
        )

    def _quantization(self) -> dict[str, object]:
        if self.settings.scheme == "none":
            return {}
        trained_on = self.inputs.trained_on
        calibration = self.settings.calibration if trained_on is None else trained_on.calibration
        found = {
            "windows": calibration.windows,
            "drop_probability": calibration.drop,
            "seed": calibration.seed,
            "of": "training data",
        }
        if trained_on is not None:
            found["weights"] = f"{trained_on.start}, before quantization-aware training"
        return {
            "weights": "int8 per output channel, symmetric",
            "activations": "uint8 per tensor, asymmetric, min-max",
            "smoothquant_alpha": calibration.smoothing,
            "calibration": found,
            "quantization_aware_training": trained_on is not None,
        }


def _figures(measured: Measured) -> dict[str, object]:
    return {"f1": measured.f1, "exact_match": measured.exact_match, "questions": measured.questions}


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _commit() -> str:
    """The commit that this code is at, or ``unknown`` outside a checkout."""
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - git from PATH, as users have it
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return shown.stdout.strip()
