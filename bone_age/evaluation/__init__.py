"""What a model is worth: figures with their uncertainty, prediction intervals, plots, and the report that compares.

Import from the modules: serving needs `intervals` alone, and must not pay for matplotlib or pandas.
"""
