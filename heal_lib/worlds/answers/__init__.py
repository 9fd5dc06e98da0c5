"""Mathematical answers, read to their end and compared: text -> tokens -> scalars -> shapes -> equality.

    verdict.equal("\\frac{11}{2}", "5 1/2")      True
    verdict.equal("(1, 2)", "\\{1, 2\\}")        False: shapes are kept
    verdict.equal("7", "7 (not 8)")              False: what is not read to its end equals only the same text
    verdict.equal("3-5", "4-6")                  False: ranges, dates and words are texts (written.py)

Rules: exact where both sides are exact; a decimal of six or more significant digits stands for a number that no decimal
writes in full; a unit, a percent sign or a degree sign that one side leaves out is no difference."""
