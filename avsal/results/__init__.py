"""Output: folders of maps with their description, overlays, and jobs on many files."""
