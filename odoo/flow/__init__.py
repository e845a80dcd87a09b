"""Tests of the whole module in a running Odoo, over HTTP. ``odoo/test_flow.py`` runs them."""
