"""Benchmarks: compare Creemson with other systems that do the same work, in turns, in the same run.

Each workload is a module with a function that returns series of figures. ``serving`` runs the systems, ``load`` sends
requests to them from another process, ``turns`` alternates between them, ``figures`` and ``plots`` make the report, and
``peers`` has the other systems.
"""
