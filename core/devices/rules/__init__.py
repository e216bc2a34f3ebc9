"""The rules that profiles set limits for, one function each; a new one is known by being here. Imports core.ops."""

from delegraph.core.devices.rules import axes, tensors, windows
from delegraph.core.devices.rules.rule import RULES, DeviceConstraint, Rule, limit_text

__all__ = ["RULES", "DeviceConstraint", "Rule", "limit_text"]

_REGISTERING = (axes, tensors, windows)
