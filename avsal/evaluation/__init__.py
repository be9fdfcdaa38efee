"""Scoring saliency maps against recorded gaze: `run` evaluates databases, `protocol` recordings."""
