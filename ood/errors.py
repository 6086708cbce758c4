"""The one exception that means: the input is wrong, and here is what to do about it."""


class InputError(Exception):
    """A problem with parameters, files or data that the user can mend.

    The message names the key or file and the remedy; commands print it without a traceback.
    """
