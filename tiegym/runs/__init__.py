"""One run: its folder, its rows, its journal, its command line, its signals. Judges nothing."""
