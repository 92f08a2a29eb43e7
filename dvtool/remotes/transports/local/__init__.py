"""The transport for a directory: a shared disk, a mounted volume, a USB stick."""
