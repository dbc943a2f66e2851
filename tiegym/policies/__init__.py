"""What decides ties without learning: fixed patterns, chance, schedules."""
