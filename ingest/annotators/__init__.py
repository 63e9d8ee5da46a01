"""What can be found out about a text before it is trained on: one file an annotator, and what several of them share."""
