"""Whether the questions of today are those a model was measured on, and its answers still agree with readers."""
