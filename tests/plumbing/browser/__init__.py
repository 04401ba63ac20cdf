"""The report pages as people meet them: in a browser, on a phone and a desk, in the light, in the dark and on paper."""
