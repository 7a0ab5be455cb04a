"""Serving one bundle over HTTP: set up, decode, predict, encode. No torch, and nothing is unpickled."""
