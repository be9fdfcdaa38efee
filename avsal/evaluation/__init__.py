"""Scoring saliency maps against recorded gaze. `session` runs an evaluation; one noun a file."""
