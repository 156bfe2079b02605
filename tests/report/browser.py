"""Headless Chromium, driven by Selenium; nothing is downloaded to run it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
WHY_NOT = "needs Chromium and chromedriver on PATH (Debian: apt-get install chromium chromium-driver)"


@contextmanager
def browser() -> Iterator[Chrome]:
    """A fresh browser that notes every request it makes and every message of a page."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip(WHY_NOT)
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=Service(DRIVER))
    try:
        yield chrome
    finally:
        chrome.quit()


def show(chrome: Chrome, page: Path, *, width: int = 1280, dark: bool = False, media: str = "screen") -> None:
    """Open a page as a screen of `width` pixels would show it."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    chrome.get(page.as_uri())


def requests(chrome: Chrome) -> list[str]:
    """Addresses that the page asked for since it was opened, data in the page itself left out."""
    events: list[dict[str, Any]] = [
        json.loads(line["message"])["message"] for line in chrome.get_log("performance")
    ]
    asked = (e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent")
    return [url for url in asked if not url.startswith("data:")]


# The WCAG 2.2 contrast of every text on the page against the nearest opaque ground behind it, from the styles
# that the browser computed; those below 4.5 (3 for large text) are returned.
POOR_CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
    if (colour[3] > 0) throw new Error("a ground that is half transparent");
  }
  throw new Error("no ground");
};
const poor = new Set();
let seen = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
  const style = getComputedStyle(element);
  const colour = rgba(element.closest("svg") ? style.fill : style.color);
  const [x, y] = [luminance(colour), luminance(ground(element))];
  const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  seen += 1;
  const text = walker.currentNode.data.trim().slice(0, 30);
  if (ratio < (large ? 3 : 4.5)) poor.add(`${text}: ${ratio.toFixed(2)}`);
}
return [seen, [...poor]];
"""
