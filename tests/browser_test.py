"""The HTML report in a real browser; left out where there is no Chromium."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from estimator_spec_ext.diagnostics import Finding, Report, Severity, Where

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')

pytestmark = [pytest.mark.once, pytest.mark.slow, pytest.mark.skipif(
    CHROMIUM is None, reason='needs Chromium (Debian: apt-get install chromium)')]

WIDTH, HEIGHT = 1400, 900
OPTIONS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
           '--disable-background-networking', '--disable-component-update', '--disable-sync',
           '--hide-scrollbars')


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    """A screenshot of a page with one error in each mode, as (HEIGHT, WIDTH, 3) in 0..255."""
    from matplotlib import image
    folder = tmp_path_factory.mktemp('browser')
    page, shot = folder / 'report.html', folder / 'report.png'
    report = Report(findings=tuple(
        Finding('ESX201', 'loss-not-scalar', Severity.ERROR, f'one of {mode}', hint='reduce it',
                where=Where(mode=mode, field='loss', op='Square', file=__file__, line=3),
                path=('loss', 'Mean', 'Square'))
        for mode in ('train', 'eval', 'infer')), depth='graph')
    page.write_text(report.to_html(), encoding='utf-8')
    subprocess.run(
        [CHROMIUM, *OPTIONS, f'--user-data-dir={folder / "profile"}',
         f'--window-size={WIDTH},{HEIGHT}', f'--screenshot={shot}', page.as_uri()],
        check=True, capture_output=True, timeout=120)
    return (image.imread(shot)[:HEIGHT, :WIDTH, :3] * 255).astype(int)


def _runs(columns):
    """How many groups of neighbours there are among numbers in order."""
    return int(np.sum(np.diff(columns) > 20)) + 1 if len(columns) else 0


def test_the_modes_stand_side_by_side(picture):
    red = (picture[..., 0] > 180) & (picture[..., 1] < 80) & (picture[..., 2] < 80)
    # The stripe of a card is a long line of red from top to bottom.
    stripes = np.flatnonzero(red.sum(axis=0) > 100)
    assert _runs(stripes) == 3
    left, right = stripes[0], stripes[-1]
    assert left < WIDTH / 4 and right > WIDTH / 2


def test_nothing_runs_out_of_the_page(picture):
    background = picture[2, 2]
    margin = picture[:, -4:].reshape(-1, 3)
    assert (np.abs(margin - background).max(axis=1) < 12).mean() > .99
    written = np.abs(picture - background).max(axis=2) > 60
    assert .01 < written.mean() < .5
