"""What every room uses: errors and options as data, files, configs, isolation, launching."""
