"""Export: the data of a commit as ordinary files under ordinary names."""
