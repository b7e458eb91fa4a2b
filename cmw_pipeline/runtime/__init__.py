"""The machine around a run: devices, named random streams, signals, log."""
