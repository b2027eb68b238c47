"""The report: one HTML page that holds all it shows, made from the inspection file.

``read`` asks the inspection file, ``facts`` says what the lake holds, ``samples`` chooses the seeds of the browser, and ``build``
puts the page together; the package ``star_pipeline.figures`` draws. The plotting library (Altair's charts, drawn in the browser by
Vega) is imported in functions only, since Dagster's definitions load this package.
"""
