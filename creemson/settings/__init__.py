"""The settings: their sections and fields, where values are loaded from, and how they are checked."""
