"""The drawing kit: one look for figures and tables, and the words that label drawn data. Below everything."""
