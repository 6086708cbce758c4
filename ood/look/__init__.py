"""What is in a folder of pictures, before any training: its files, doubtful labels, shortcuts, and what it can promise."""
