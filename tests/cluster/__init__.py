"""Clusters of two workers, as a user has them: real schedulers, real stores."""
