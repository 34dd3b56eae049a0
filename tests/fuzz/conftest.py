"""Files that pytest must not import."""

collect_ignore = ["guided.py"]  # needs Atheris, which only `nox -s fuzz` installs
