"""Journals to MLflow; the only package that knows it.

`python -m regroup.tracking publish` turns the journals of stages (`regroup.journal`) into MLflow runs. One
process does that for all stages of a pipeline run, because importing MLflow takes longer than many a stage. A
long stage has it done in the background while it runs, so that its curves can be watched.
"""
