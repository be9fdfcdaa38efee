"""What a network sees of a video: windows of frames, normalised pixels, log-spectrograms."""
