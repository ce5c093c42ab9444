"""A model version as a folder that runs without MLflow: whole, at half its size, or in eight bits."""
