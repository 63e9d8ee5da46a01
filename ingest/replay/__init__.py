"""Sections of what models were trained on, as sightings in the lake: documents, sections as rows, exports, corpora.

`sections` is the grammar, `documents` cuts a Markdown document, `provenance` is about pairs that a program mined,
`corpus` reads an older system's files, `rows` makes sections of exported rows, and `add` appends what all of these
found. `mining` decides which mined pairs and which made-up questions are worth keeping; it calls no model.

Not here: which sections are drawn again (the views, and `views.sampling`).
"""
