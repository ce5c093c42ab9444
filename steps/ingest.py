from typing import Annotated

from zenml import step

from bone_age.data.loading import load_dataset
from bone_age.data.manifest import Dataset
from bone_age.settings import DataSettings
from steps.caching import INGEST


@step(cache_policy=INGEST)
def ingest_dataset(data: DataSettings, dataset_key: str, world_key: str) -> Annotated[Dataset, "dataset"]:
    """Read the data set and hash every image. The keys tell ZenML's cache what its parameters cannot see."""
    return load_dataset(data)
