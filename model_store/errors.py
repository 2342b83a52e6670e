"""What can be wrong with a model store: one error per defect.

The tree::

    ModelStoreError
     ├─ InvalidModelNameError        not a model name, or not ``name[@version|@latest]``
     ├─ PathOutsideStoreError        a symbolic link, or a path that leaves the store
     ├─ InvalidPointerError          ``latest.json`` is damaged
     ├─ NotFoundError  (LookupError)
     │   ├─ UnknownModelError
     │   ├─ UnknownVersionError
     │   └─ UnknownConfigurationError
     ├─ ArtifactError
     │   ├─ MissingFileError
     │   ├─ UnexpectedFileError
     │   ├─ TruncatedFileError
     │   ├─ DigestMismatchError
     │   ├─ OversizedHeaderError
     │   ├─ UnknownFormatVersionError
     │   ├─ InvalidManifestError
     │   ├─ InvalidTableError
     │   └─ InvalidTensorError
     └─ PublicationError
         ├─ VersionExistsError
         └─ StoreFullError

Operating system errors other than a full disk (permissions, say) pass through as `OSError`.
"""

from __future__ import annotations


class ModelStoreError(Exception):
    """Base of all errors of this package; the message names the file or the spec and what is wrong with it."""


class InvalidModelNameError(ModelStoreError):
    """A model name or spec of another form than FORMAT.md allows."""


class PathOutsideStoreError(ModelStoreError):
    """A symbolic link, or a name or path with ``..``, a backslash, NUL, or an absolute path."""


class InvalidPointerError(ModelStoreError):
    """``latest.json`` does not hold a version number."""


class NotFoundError(ModelStoreError, LookupError):
    """Base: what was asked for is not there; the message lists what is."""


class UnknownModelError(NotFoundError):
    """The store has no published version of this name."""


class UnknownVersionError(NotFoundError):
    """The model is there, this version is not."""


class UnknownConfigurationError(NotFoundError):
    """The Pareto table has no point of this id."""


class ArtifactError(ModelStoreError):
    """Base: a defect of one artifact."""


class MissingFileError(ArtifactError):
    """A file that must be there is not."""


class UnexpectedFileError(ArtifactError):
    """A file that the manifest does not list, or something that is no regular file."""


class TruncatedFileError(ArtifactError):
    """A file is shorter than it says itself or than the manifest says."""


class DigestMismatchError(ArtifactError):
    """A file's bytes are not the published ones."""


class OversizedHeaderError(ArtifactError):
    """A manifest, table, pointer or tensor header over its size limit; it was not parsed."""


class UnknownFormatVersionError(ArtifactError):
    """An artifact of a format that this code does not read.

    Attributes:
        found: the format version in the file.
        supported: those that this code reads.
    """

    def __init__(self, where: str, found: object, supported: tuple[int, ...]) -> None:
        self.found = found
        self.supported = supported
        listed = ", ".join(map(str, supported))
        super().__init__(
            f"{where}: format_version {found!r:.40} is not supported (supported: {listed}); "
            "it was likely written by a newer release"
        )


class InvalidManifestError(ArtifactError):
    """The manifest is no JSON of the specified form, or contradicts itself or its place in the store."""


class InvalidTableError(ArtifactError):
    """The Pareto table is no JSON of the specified form, is unsorted or has dominated points."""


class InvalidTensorError(ArtifactError):
    """A missing or extra tensor, a wrong type or shape, or values that no model has."""


class PublicationError(ModelStoreError):
    """Base: a version could not be published; nothing of it is visible."""


class VersionExistsError(PublicationError):
    """The version asked for is published already, and versions never change."""


class StoreFullError(PublicationError):
    """No space or quota left on the store's file system."""
