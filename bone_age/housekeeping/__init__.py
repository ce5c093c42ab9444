"""Keeping a home in order: what is wrong with it, and what may go."""
