"""What has effects: everything here happens inside the sandbox."""
