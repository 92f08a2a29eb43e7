"""Loaded by every Python process that has this folder on PYTHONPATH: see fault_points.py."""

import fault_points

fault_points.install()
