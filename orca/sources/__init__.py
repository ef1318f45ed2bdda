"""Where bytes come from: the build context, registries."""
