"""What the tools do, beyond what the upstream ones do; the files in ``tools/`` only read the command line."""
