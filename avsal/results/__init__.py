"""What goes out: folders of maps and their description, overlays, whole jobs on files."""
