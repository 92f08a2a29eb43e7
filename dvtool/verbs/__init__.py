"""The verbs: one family a file. They never print and never import each other."""
