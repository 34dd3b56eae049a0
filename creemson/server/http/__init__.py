"""The HTTP interface: routes, middleware, uploads and downloads."""
