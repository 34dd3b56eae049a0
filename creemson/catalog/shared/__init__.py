"""What the catalog has for several servers that share it: whose a job is, and hints from one server to the others."""
