"""Tensors: the vision-language model, its engine and its training. Imports neither dialogue nor bot.

Importing it lets transformers' Auto classes know a visavis checkpoint; nothing heavy is imported before they meet one.
"""

from visavis.models.auto_classes import announce, register

__all__ = ["register"]

_ANNOUNCED = announce()
