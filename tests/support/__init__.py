"""What the tests and the benchmark share: images without a network, a registry, users, a runner for orca."""
