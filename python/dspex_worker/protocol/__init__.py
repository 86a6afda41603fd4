"""Frames between the host and a worker (contract/frame.md): their form, their bodies, and the values in them."""
