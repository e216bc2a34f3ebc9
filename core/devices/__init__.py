"""Device profiles and machines (devices.yaml). Imports core up to abi."""
