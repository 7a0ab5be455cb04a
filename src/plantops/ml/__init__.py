"""The training wing: one module with a ``main`` per stage. Imports the ground only; alone in using torch."""
