"""Tests that need a Docker engine. Not named ``docker``: that would hide the SDK's package of this name."""
