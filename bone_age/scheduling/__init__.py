"""Retraining on a schedule: when, whether there is reason to, one at a time, and who hears of it."""
