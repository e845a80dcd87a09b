"""The whole module in a running Odoo: over HTTP, as the web client does it, with a mock provider of embeddings. The tests are in
flow/, one server serves them all.

tools/test-odoo.sh starts it. It sets ODOO_URL, and PGHOST and PGUSER for a superuser of the server.
"""

import unittest

from flow.case import provider
from flow.client import is_up, set_server, sql, wait
from flow.mock_provider import DIMENSIONS
from flow.test_databases import TestDatabases
from flow.test_knowledge import TestKnowledge
from flow.test_later import TestLater
from flow.test_provider import TestProvider
from flow.test_records import TestRecords

__all__ = ['TestDatabases', 'TestKnowledge', 'TestLater', 'TestProvider', 'TestRecords']

if __name__ == '__main__':
    set_server('openai_compatible_url', f"'{provider.url}'")
    # Failures and retries come soon.
    set_server('sync_timeout', '3000')
    set_server('retry_delay', '100')
    sql('flow', "SELECT chatbot_set_model('openai_compatible', 'mock', %s)", DIMENSIONS)
    wait(is_up)
    unittest.main()
