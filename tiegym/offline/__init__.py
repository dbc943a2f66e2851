"""Recorded decisions for agents that learn offline: from run folders, and to and from Minari."""
