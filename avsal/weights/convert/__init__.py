"""Other projects' checkpoints to weights of this one: whole networks and single encoders."""
