"""The parts of one opened repository: settings, locks, arguments, and who needs which manifest."""
