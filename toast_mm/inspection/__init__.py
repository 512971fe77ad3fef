"""What is in the data of a config: broken and doubtful files, counts, and a sheet of samples."""

from toast_mm.imports import quiet_imports

with quiet_imports():
    from toast_mm.inspection.data_report import DataReport, SplitReport, inspect
    from toast_mm.inspection.findings import Finding
    from toast_mm.inspection.sample import Sample
    from toast_mm.inspection.sheet import draw_sheet

__all__ = ['DataReport', 'Finding', 'Sample', 'SplitReport', 'draw_sheet', 'inspect']
