"""Git-integrated data versioning.

Large files live as content-addressed packs in object storage; small JSON manifests stand next
to the code in git. A git commit therefore fixes a model's code and its data.
"""

__version__ = "0.1.0"
