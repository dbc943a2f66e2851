"""What a transformer learns besides the next token: data, losses and metrics of tasks.

Each task gives batches, a loss in nats and metrics. Knows no transformer: which kind of head a task
needs is a name.
"""
