"""The store: images, snapshots, steps, locks."""
