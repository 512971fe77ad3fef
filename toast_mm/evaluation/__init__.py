from .sweep import Run, run_all

__all__ = ['Run', 'run_all']
