"""Measures dvtool beside its peers; run by scripts/bench. Not part of the package dvtool."""
