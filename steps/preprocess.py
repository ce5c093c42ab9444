from typing import Annotated

from zenml import step

from bone_age.data.manifest import Dataset
from bone_age.data.prepared import PreparedImages, prepare_images
from bone_age.imaging import PreprocessingSettings
from bone_age.scratch import scratch_folder
from steps.caching import PREPROCESS


@step(cache_policy=PREPROCESS)
def preprocess_images(
    dataset: Dataset, settings: PreprocessingSettings, max_quarantined_share: float
) -> Annotated[PreparedImages, "prepared_images"]:
    """Orient, undo inversion, fit and apply CLAHE to every image; name and set aside the corrupt ones."""
    return prepare_images(dataset, settings, max_quarantined_share, scratch_folder())
