"""What finished runs say: which may be compared, intervals, verdicts, tables."""
