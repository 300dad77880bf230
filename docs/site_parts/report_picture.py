"""Draw docs/figures/report.png, the first screen of the quick start's report, and its top.

usage: make study && PYTHONPATH=docs .venv/bin/python -m site_parts.report_picture

It needs Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image
from selenium import webdriver

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "results" / "quickstart" / "report" / "index.html"
PICTURE = ROOT / "docs" / "figures" / "report.png"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
WIDTH, TOP = 1120, 640  # pixels; the answer and the first figure are above TOP


def main() -> None:
    """Take the picture from the top of the page to the end of its cautions."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        size = {"width": WIDTH, "height": 3000, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(REPORT.as_uri())
        end = browser.execute_script(
            "return document.querySelector('nav').getBoundingClientRect().top"
        )
        shot = Image.open(BytesIO(browser.get_screenshot_as_png()))
    finally:
        browser.quit()
    part = shot.crop((0, 0, WIDTH, int(end))).convert(
        "P", palette=Image.Palette.ADAPTIVE, colors=256
    )
    part.save(PICTURE, optimize=True)
    part.crop((0, 0, WIDTH, TOP)).save(PICTURE.with_stem("report_top"), optimize=True)
    print(PICTURE)


if __name__ == "__main__":
    main()
