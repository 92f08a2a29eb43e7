"""run: a command with what fixes code and data, and a record of it; runs shown and repeated."""
