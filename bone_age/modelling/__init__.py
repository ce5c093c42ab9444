"""Networks: backbones, heads, training and export. Written against Keras alone, so any Keras backend runs it."""
