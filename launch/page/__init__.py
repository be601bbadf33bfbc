"""The page that shows a ladder while it trains: one HTML file without anything from outside it.

Start reading at writer.py. What is shown comes from content.py (curves.py, forecasts.py); document.py draws it with
charts.py and rungs.py, and look.py says how it looks.
"""
