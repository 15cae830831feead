"""The render farm: jobs, the frames they are made of, the slots that make them, and who gets what next."""
