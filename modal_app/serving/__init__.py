"""Answers from models on this machine."""
