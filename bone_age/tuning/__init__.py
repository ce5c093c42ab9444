"""Searching the recipe's values with Optuna: what `bone-age tune` does.

Trials are trained like any model, on the same split, and judged on validation alone; rows of the test split are taken
out before an image is decoded. A study is one SQLite file, so that the same command goes on after a kill.
"""
