"""plantops: notices new photos, trains, judges, releases, and goes back."""

__version__ = "0.1.0"
