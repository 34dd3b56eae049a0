"""Workbooks of one sheet, written as a stream; see decision 33.

``sheet`` writes the rows, ``cells`` says how a value of each type is stored, ``texts`` how a text is, ``widths`` looks
through the columns first, ``package`` has the other parts of the workbook.
"""
