"""A headless Chromium that opens pages as a phone, a desk or a sheet of paper does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


@dataclass(frozen=True)
class Look:
    """A window in pixels, and what the page is told about the world."""

    width: int
    height: int
    scheme: str = "light"
    media: str = "screen"


PHONE, DESK = Look(390, 844), Look(1280, 800)
PAPER = Look(703, 1024, media="print")  # A4 without its margins, at 96 pixels an inch


@dataclass(frozen=True)
class Browser:
    """One running browser."""

    driver: webdriver.Chrome

    def open(self, file: Path, look: Look) -> None:
        """Load the page anew with that look; what the console said before is forgotten."""
        size = {"width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": look.scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": look.media, "features": features})
        self.complaints()
        self.driver.get(file.as_uri())

    def ask(self, script: str, *values: object) -> Any:
        """What a line of JavaScript returns; the page itself has none."""
        return self.driver.execute_script(script, *values)

    def complaints(self) -> list[str]:
        """What the console has said since it was last asked."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def images(self) -> list[dict[str, str]]:
        """What a screen reader is told of each chart: its name and its description."""
        tree = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return [
            {key: node.get(key, {}).get("value", "") for key in ("name", "description")}
            for node in tree
            if node.get("role", {}).get("value") == "image"
        ]


def start(chromium: str, chromedriver: str) -> webdriver.Chrome:
    """Start it; whoever does ends it by `quit`."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(chromedriver))
