"""What is done around every task: what it uses is written down before, what it found after.

`code` says which code a result depends on, `resolve` writes the files of the stage `tasks`, `results` and
`validation` those of the stage `evaluate`. The tasks themselves are in `regroup.tasks`.
"""
