"""What pytest is not to look into."""

collect_ignore = ["guided.py"]  # it needs Atheris, which is there for `nox -s fuzz` only
