"""What the text of a column means: the types that it can have, how numbers and dates are written, and which fits."""
