"""Pairs looked at by people: by keyboard on a terminal, by options in scripts."""
