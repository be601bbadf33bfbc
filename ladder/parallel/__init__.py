"""One run on many devices and in many processes. Start reading at sharding.py."""
