"""Values of the OCI specs, without any input or output."""
