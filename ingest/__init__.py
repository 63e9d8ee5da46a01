"""Others' shapes, and scorers' verdicts, as events.

`run.ingest` reads files into the lake; `readers` know the shapes of rows. Nothing here asks what events mean: the views
do.
"""
