"""Set up what every test shares; its presence also puts this folder on the import path (``helpers`` and others)."""

import os

# a test that reaches for the network must fail at once, and bars would hide the message of a failure
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# tensors this small gain nothing from threads, and threads that wait for one another starve a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
