"""What a build will do, worked out before anything is done. Pure."""
