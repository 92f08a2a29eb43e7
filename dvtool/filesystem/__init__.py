"""The data of commits for fsspec (`dv://`) and universal_pathlib."""
