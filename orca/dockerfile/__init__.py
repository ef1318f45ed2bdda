"""From a Dockerfile's text to frozen instructions. Pure: no file is read, no process started."""
