"""An executor that lets the workers of a Dask cluster run large commands; small ones stay on this machine.

On the server: :mod:`executor` implements the interface, :mod:`placement` decides what goes where, :mod:`division` lets
several workers do one command, :mod:`cluster` keeps the connection to the scheduler, :mod:`library` wraps Dask's
client. On the machines of the workers: :mod:`worker` starts them, :mod:`task` is what Dask runs, :mod:`host` runs the
worker process of :mod:`creemson.executors.local`.
Both use :mod:`attempts`, :mod:`versions` and :mod:`tls`.
"""
