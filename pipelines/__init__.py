"""ZenML pipelines, one a file; each reads top to bottom like the diagram in the README."""
