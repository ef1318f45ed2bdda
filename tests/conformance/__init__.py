"""Dockerfiles and the images that they have to give; README.md says how to read and write them."""
