"""The synchronous client, made of the asynchronous one by `tools/unasync.py`."""
