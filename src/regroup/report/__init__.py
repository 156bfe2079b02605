"""The values of the thesis beside ours: tables, figures, summary."""
