"""One thin step a file: artifacts in, a call into bone_age, artifacts out."""
