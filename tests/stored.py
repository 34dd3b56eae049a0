"""What a store counts."""


def usage(store):
    """The number of bytes stored: files, outputs, and unfinished uploads with their announced size."""
    return sum(store._listed().values()) if not store.quota.counts else store.quota.total
