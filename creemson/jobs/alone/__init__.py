"""A server alone: it keeps its jobs in memory, and in a catalog that the next server reads when it starts."""
