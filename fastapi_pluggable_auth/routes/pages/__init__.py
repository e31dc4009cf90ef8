"""What people see in a browser: plain HTML forms over the same flows as the JSON routes."""
