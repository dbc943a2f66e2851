"""Pictures of ties and of runs. They draw what they are given and read no files."""
