"""What runs in the peers' environment, without Gnothi: each module serves one tool's measurements."""
