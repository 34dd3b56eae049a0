"""Stored outputs in other formats: what :func:`creemson.engine.export.render.render` writes."""
