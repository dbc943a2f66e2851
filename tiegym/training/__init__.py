"""How it is trained: iterations, evaluation, what a step costs, and what can go wrong there."""
