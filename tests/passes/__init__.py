"""A small feature that a host might write: passes, with which a device at a door asks for its owner."""
