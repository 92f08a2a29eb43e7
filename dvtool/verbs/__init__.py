"""The verbs: one module or folder each. A verb never prints; tests hold which imports which."""
