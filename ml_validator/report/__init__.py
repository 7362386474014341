"""The paper's tables and figures, made anew from the data set, beside what the paper prints.

`published` has the paper's figures, `description` what the data are, `protocol` the paper's
experiment, `figures` the plots, and `document` puts all of it into one JSON and one HTML page.
Nothing here decides anything about a detector.
"""
