"""Reports and pictures of what was trained."""
