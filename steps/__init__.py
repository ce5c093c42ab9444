"""One thin step a file: artifacts in, a call into bone_age, artifacts out.

ZenML reads its environment when it is first imported, so the home is made known to it here.
"""

import os

from bone_age.settings import Home

os.environ.setdefault("ZENML_CONFIG_PATH", str(Home().zenml_config))
os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
os.environ.setdefault("ZENML_LOGGING_VERBOSITY", "ERROR")

from steps import folder_materializer as folder_materializer  # registers itself with ZenML for the project's artifacts
