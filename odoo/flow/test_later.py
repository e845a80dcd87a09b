"""Documents that workers and the scheduled action embed later."""

import contextlib

from .case import FlowCase, provider
from .client import OdooError, row_counts, set_server, wait


class TestLater(FlowCase):
    def setUp(self):
        super().setUp()
        self.set_mode('async')

    def test_workers_embed_saved_documents(self):
        ids = self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        self.odoo.wait('chatbot.document', ids, status='synced', processed=True)
        self.assertEqual(self.search_texts("vouchers")[0], "Vouchers are valid for three years.")
        self.odoo('chatbot.document', 'write', ids, {'content': "The same for both."})
        self.odoo.wait('chatbot.document', ids, status='synced')
        self.assertEqual(self.search_texts("vouchers"), ["The same for both."] * 2)
        self.odoo('chatbot.chatbot', 'unlink', [self.chatbot])
        wait(lambda: not any(row_counts('flow', self.chatbot).values()))

    def test_retry_after_a_failure_syncs(self):
        provider.fault = 401
        ids = self.documents("A text.", "Another.")
        self.odoo.wait('chatbot.document', ids, status='error')
        self.assertIn("the mock says 401", self.odoo.read('chatbot.document', ids, 'status_reason')[0])
        provider.fault = None
        self.odoo('chatbot.document', 'action_retry', ids)
        self.odoo.wait('chatbot.document', ids, status='synced')

    def test_scheduled_action_processes_the_queue_without_workers(self):
        set_server('databases', "'nowhere'")
        self.addCleanup(set_server, 'databases', 'DEFAULT')
        ids = self.documents("Refunds are paid within ten days.")
        crons = self.odoo('ir.cron', 'search', [('name', 'ilike', "what is queued")])
        with contextlib.suppress(OdooError):  # the scheduler may run it at this moment, which makes the call fail
            self.odoo('ir.cron', 'method_direct_trigger', crons)
        self.odoo.wait('chatbot.document', ids, status='synced')

    def test_throttled_documents_are_synced_later(self):
        provider.fault = 429
        ids = self.documents("A text.")
        wait(lambda: provider.requests)
        provider.fault = None
        self.odoo.wait('chatbot.document', ids, status='synced')
