"""From text to a forecast that is checked: `ladder demo`. Start reading at flow.py."""
