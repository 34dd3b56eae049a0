"""Code that is only type-checked, as users of the package would write it."""
