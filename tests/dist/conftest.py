"""These tests build and install into environments of their own, for which they need the network."""

from __future__ import annotations

import os

if os.environ.get('ESE_DIST') != '1':
    collect_ignore_glob = ['*_test.py']
