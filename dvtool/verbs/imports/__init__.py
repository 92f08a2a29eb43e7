"""imports: data from where it is, and what is new there since; see `Imports`."""
