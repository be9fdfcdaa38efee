"""Scoring saliency maps against recorded gaze. One noun a file; `plan` says what is compared."""
