"""The commands for a Dask cluster: its workers, and checks of it."""
