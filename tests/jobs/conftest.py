"""Whole jobs: they run with `make test-mistakes`, no other run collects them."""

from __future__ import annotations

import os

if os.environ.get('ESE_MISTAKES') != '1':
    collect_ignore_glob = ['*_test.py']
