"""Signatures of programs, and the values that fit them."""
