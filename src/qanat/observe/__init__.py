"""What a metric and a log line are called, and how they leave the process."""
