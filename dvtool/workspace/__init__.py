"""The user's files: walking, reading and writing them, and what is known without reading."""
