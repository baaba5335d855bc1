"""The page of a run in a real browser: no error, curves drawn, nothing asked of the network, no text run as a script,
light and dark, on a phone and on a desk."""

import itertools
import shutil

import pytest

from doctor.report import run_record
from doctor.report.page.render import page
from tests.support import run_records

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine (apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

# How many different colours a canvas shows; a blank one shows one.
COLOURS = """canvas => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(data.buffer)).size;
}"""
# The lowest contrast of a text against what is behind it, by the formula of WCAG 2, with the text that has it.
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => [r, g, b].map(linear)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => { for (; node; node = node.parentElement) {
      const found = rgb(getComputedStyle(node).backgroundColor); if (found.length < 4 || found[3] > 0) return found; }
    return [255, 255, 255]; };
  let worst = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || ["SCRIPT", "NOSCRIPT"].includes(parent.tagName) || !parent.getClientRects().length) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(parent).color)), luminance(behind(parent))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, node.data.trim().slice(0, 60)];
  }
  return worst;
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def shown(browser, tmp_path):
    """Opens the page of a made-up record; fails at the end for any error or request."""
    troubles, contexts = [], []

    def show(name, lang="en", scheme="light", size=DESK, **more):
        file = tmp_path / f"{name}.html"
        file.write_text(page(run_record.read(getattr(run_records, name)(tmp_path / name)), lang), encoding="utf-8")
        context = browser.new_context(viewport=size, color_scheme=scheme, **more)
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on("request", lambda request: request.url == file.as_uri() or troubles.append(request.url))
        opened.goto(file.as_uri())
        return opened

    yield show
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.mark.parametrize(("scheme", "size"), list(itertools.product(("light", "dark"), (PHONE, DESK))))
def test_drawn_readable_and_within_the_screen(shown, scheme, size):
    opened = shown("healed", scheme=scheme, size=size)
    canvases = opened.query_selector_all(".plot canvas")
    assert len(canvases) == len(opened.query_selector_all("figure")) == 11
    assert all(canvas.evaluate(COLOURS) > 10 for canvas in canvases)
    assert opened.evaluate("document.documentElement.scrollWidth") <= size["width"]
    ratio, text = opened.evaluate(CONTRAST)
    assert ratio >= 4.5, text  # WCAG 2, level AA
    back = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(14, 17, 22)"}[scheme]
    assert all(
        opened.evaluate("[...document.querySelectorAll('.plot')].map(p => p.getAttribute('aria-label').length > 40)")
    )


def test_the_text_is_there_in_both_languages(shown):
    english = shown("healed").inner_text("body")
    for text in ("Trained to the end", "300 of 300", "GPU 7 is throttled.", "Dropping to ZeRO-2", "8 × NVIDIA H100",
                 "The rehearsal passed in 1 min 23 s.", "cutoff_len: 4096  ← override"):  # fmt: skip
        assert text in english
    chinese = shown("torn", lang="zh").inner_text("body")
    assert "记录没有结尾" in chinese
    assert "metrics.jsonl：有 1 行无法读取" in chinese


def test_hostile_text_is_only_text(shown):
    opened = shown("hostile")
    assert opened.evaluate("window.stolen") is None
    assert opened.query_selector("img") is None
    assert "</script><script>window.stolen=1</script>" in opened.inner_text("h3")
    assert opened.query_selector_all(".plot canvas")


def test_the_curves_follow_the_width_and_the_theme(shown):
    opened = shown("healed")
    canvas = opened.query_selector("#plot-loss canvas")
    before = canvas.evaluate("c => [c.clientWidth, c.toDataURL()]")
    opened.emulate_media(color_scheme="dark")
    opened.wait_for_function("old => document.querySelector('#plot-loss canvas').toDataURL() != old", arg=before[1])
    opened.set_viewport_size(PHONE)
    opened.wait_for_function("document.querySelector('#plot-loss canvas').clientWidth < 390")
    assert opened.evaluate("document.querySelectorAll('#plot-loss canvas').length") == 1


def test_without_scripts_the_tables_have_the_figures(shown):
    opened = shown("healed", java_script_enabled=False)
    assert "Scripts are off" in opened.inner_text("body")
    opened.click("figure summary")
    assert "1.535" in opened.inner_text("figure table")


def test_the_log_is_opened_at_its_end(shown):
    opened = shown("healed")
    opened.add_style_tag(content="pre { max-height: 40px !important; }")  # shorter than the log of this record
    opened.click("section[aria-labelledby=log] summary")
    opened.wait_for_timeout(100)
    pre = "document.querySelector('pre[aria-labelledby=log]')"
    assert opened.evaluate(f"{pre}.scrollHeight > {pre}.clientHeight")
    assert opened.evaluate(f"{pre}.scrollTop + {pre}.clientHeight >= {pre}.scrollHeight - 1")
