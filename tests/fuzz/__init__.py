"""What no peer in its right mind would send, and a great deal of it."""
