"""Eye-tracking data on disk. One file a form: STAViS folders, image sets, gaze tables."""
