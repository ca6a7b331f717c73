"""The organism's world and its training from nothing."""
