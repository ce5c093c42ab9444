"""How the project's artifacts lie in ZenML's artifact store: as the folder they save themselves into.

Where the store is a local folder, an artifact is read in place, so a memory-mapped array is never copied; from a remote
store it is fetched into a temporary folder first.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType
from zenml.io import fileio
from zenml.materializers.base_materializer import BaseMaterializer
from zenml.utils import io_utils

from bone_age.data.manifest import Dataset
from bone_age.data.prepared import PreparedImages
from bone_age.data.validation import DataValidation
from bone_age.evaluation.comparison import Comparison
from bone_age.evaluation.evaluated import EvaluatedModel
from bone_age.evaluation.robustness import Robustness
from bone_age.modelling.trained import TrainedModel


class FolderMaterializer(BaseMaterializer):
    """For every type with `save(folder)` and `load(folder)`."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (
        Dataset,
        DataValidation,
        PreparedImages,
        TrainedModel,
        EvaluatedModel,
        Comparison,
        Robustness,
    )
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def save(self, data: Any) -> None:
        """Let the artifact write itself, then carry it over where the store is not a local folder."""
        if not io_utils.is_remote(self.uri):
            Path(self.uri).mkdir(parents=True, exist_ok=True)
            data.save(Path(self.uri))
            return
        with tempfile.TemporaryDirectory() as scratch:
            data.save(Path(scratch))
            io_utils.copy_dir(scratch, self.uri)

    def load(self, data_type: type[Any]) -> Any:
        """Read in place, or from a copy that lives as long as the process."""
        if not io_utils.is_remote(self.uri):
            return data_type.load(Path(self.uri))
        folder = tempfile.mkdtemp(prefix="bone-age-artifact-")
        for entry in fileio.listdir(self.uri):
            source = f"{self.uri}/{entry}"
            copy = io_utils.copy_dir if fileio.isdir(source) else fileio.copy
            copy(source, str(Path(folder) / str(entry)))
        return data_type.load(Path(folder))
