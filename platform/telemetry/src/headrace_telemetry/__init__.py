"""What every service must do identically: logs today, metrics and traces as they grow."""
