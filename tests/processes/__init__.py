"""Tests of one part of the library that start processes of Python: pools, forks, a type checker."""
