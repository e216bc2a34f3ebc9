"""docs/devices.md is what its generator makes of devices.yaml, and its example works."""

from __future__ import annotations

import re

from tools import devices_table

from delegraph.core.devices.locate import SHIPPED
from delegraph.core.devices.reader import read


def test_page_is_up_to_date() -> None:
    assert devices_table.PAGE.read_text() == devices_table.page(), "run: python -m tools.devices_table"


def test_the_example_is_a_valid_file() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", devices_table.page(), re.S)
    profile = read([("devices.yaml", SHIPPED.read_bytes()), ("example", example)]).profiles["my-coral"]
    assert profile.to_device.bytes_per_s == 33_000_000 and profile.machine == "coral-usb"
