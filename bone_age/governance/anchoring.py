"""The ledger's newest digest as a tag of the registered model in MLflow: whoever cuts the tail leaves it behind.

MLflow is imported when it is asked: reading the ledger, as `bone-age history` does, needs none of it.
"""

from __future__ import annotations

import re

from bone_age.governance.ledger import Ledger
from bone_age.settings import Home

TAG = "ledger_head"


class MlflowAnchor:
    """`ledger_head` = `number:digest` on the registered model, which is made when it is not there yet."""

    def read(self) -> tuple[int, str] | None:
        """The anchored entry; None where nothing was anchored yet, or what is there is no anchor."""
        from mlflow.exceptions import MlflowException

        from bone_age.mlflow_connection import connect
        from bone_age.registry import REGISTERED_MODEL

        try:
            tags = connect().get_registered_model(REGISTERED_MODEL).tags
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        number, _, digest = tags.get(TAG, "").partition(":")
        return (int(number), digest) if re.fullmatch("[0-9]{1,18}", number) else None

    def write(self, number: int, digest: str) -> None:
        from mlflow.exceptions import MlflowException

        from bone_age.mlflow_connection import connect
        from bone_age.registry import REGISTERED_MODEL

        client = connect()
        try:
            client.create_registered_model(REGISTERED_MODEL, description="Bone age in months from a hand radiograph")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        client.set_registered_model_tag(REGISTERED_MODEL, TAG, f"{number}:{digest}")


def open_ledger() -> Ledger:
    """This home's ledger, anchored in its MLflow."""
    return Ledger.open(Home().prepare(), MlflowAnchor())
