"""The programs, one a module: a function of the module's name, and `main` for the command line.

Each module here is a sub-command of `sealkd`; the first line of its docstring stands in the overview.
"""
