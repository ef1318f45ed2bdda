"""orca: Dockerfiles to OCI images by calling skopeo, umoci and runc, and showing every call."""

__version__ = "0.1.0"
