"""The page for people: upload a radiograph, say the sex, read the answer. Gradio, in the REST API's process, at `/`."""

from bone_age.serving.page.mounting import mount_page

__all__ = ["mount_page"]
