"""What is said: the messages of the protocol and their encoding. No I/O, no trio."""
