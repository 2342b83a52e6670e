"""What a model is: length configurations, Pareto table, artifact format and store.  See FORMAT.md."""

from model_store.architecture import SIGNIFICANCES, Architecture, LinearLayer, linear_layers
from model_store.artifact import Artifact, find_defects, load_artifact
from model_store.errors import ModelStoreError
from model_store.length_config import LengthConfiguration, full_configuration
from model_store.manifest import (
    FileEntry,
    Licence,
    Manifest,
    ModelDescription,
    Quantization,
    ReadingDefaults,
    TokenizerInfo,
)
from model_store.pareto import ParetoPoint, ParetoTable, macs, macs_at, read_table
from model_store.store import ModelStore, StoredVersion
from model_store.tensors import Tensors, read_tensors, tensor_layout, validate_tensors, write_tensors

__all__ = [
    "SIGNIFICANCES",
    "Architecture",
    "Artifact",
    "FileEntry",
    "LengthConfiguration",
    "Licence",
    "LinearLayer",
    "Manifest",
    "ModelDescription",
    "ModelStore",
    "ModelStoreError",
    "ParetoPoint",
    "ParetoTable",
    "Quantization",
    "ReadingDefaults",
    "StoredVersion",
    "Tensors",
    "TokenizerInfo",
    "find_defects",
    "full_configuration",
    "linear_layers",
    "load_artifact",
    "macs",
    "macs_at",
    "read_table",
    "read_tensors",
    "tensor_layout",
    "validate_tensors",
    "write_tensors",
]
