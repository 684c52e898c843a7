"""Examples: small complete programs, each of which can be read, run and imported."""
