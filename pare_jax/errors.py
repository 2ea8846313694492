"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: one line that names the thing, the place and the next step.

    Command lines print the message to stderr and exit with status 2, without a traceback.
    """
