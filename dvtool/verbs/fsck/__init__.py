"""fsck: checks what is stored and brings back what is damaged."""
