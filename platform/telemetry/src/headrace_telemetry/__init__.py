"""What every service must do identically: logs, metrics, traces."""
