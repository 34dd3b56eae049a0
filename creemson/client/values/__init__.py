"""Python values in requests, and the words for what is wrong with them."""
