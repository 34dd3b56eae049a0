"""Reads Excel workbooks.

``parts`` reads the XML of a workbook as far as fastexcel does not: merged cells and errors. ``reader`` finds the table.
"""
