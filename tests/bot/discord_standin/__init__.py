"""Discord on a port of this machine: REST v10, gateway and links of files, as strict as its documentation.

`running_discord()` gives all of it; tests act as `people` and read on the `platform` what was shown and what it
would have complained of.
"""
