"""A provider that fails."""

from .case import FlowCase, provider
from .client import OdooError, wait


class TestProvider(FlowCase):
    def test_retry_after_a_failure_syncs(self):
        [before] = self.documents("The old text.")
        # Requests that are retried until the timeout may end with their status or as a timeout.
        for fault, reason in ((401, "key"), (404, "404"), (500, "openai_compatible"), (429, "openai_compatible")):
            with self.subTest(fault):
                provider.fault = fault
                [document] = self.documents(f"A text for {fault}.")
                self.odoo('chatbot.document', 'write', [before], {'content': f"A new text for {fault}."})
                for row in self.odoo.read('chatbot.document', [before, document], 'status', 'status_reason', 'processed'):
                    self.assertEqual((row['status'], row['processed']), ('error', False))
                    self.assertIn(reason, row['status_reason'])
                action = self.odoo('chatbot.document', 'action_retry', [document])
                self.assertEqual(action['params']['type'], 'warning')
                provider.fault = None
                # A provider that throttles is not asked before the wait that it named is over.
                wait(lambda ids=(before, document): self.odoo('chatbot.document', 'action_retry', list(ids))['params']['type'] != 'warning')
                self.assertEqual(set(self.odoo.read('chatbot.document', [before, document], 'status')), {'synced'})
                self.assertIn(f"A new text for {fault}.", self.search_texts(f"new text for {fault}"))

    def test_question_without_provider_is_a_user_error(self):
        self.documents("A text.")
        provider.fault = 401
        [ask] = self.odoo('chatbot.ask', 'create', [{'chatbot_id': self.chatbot, 'question': "What?"}])
        with self.assertRaises(OdooError) as caught:
            self.odoo('chatbot.ask', 'action_ask', [ask])
        self.assertEqual(caught.exception.kind, 'odoo.exceptions.UserError')
        self.assertIn("the mock says 401", str(caught.exception))

    def test_sync_all_embeds_failed_documents(self):
        provider.fault = 401
        ids = self.documents(*(f"Text number {n}." for n in range(150)))
        [row] = self.odoo.read('chatbot.chatbot', [self.chatbot], 'error_count', 'progress')
        self.assertEqual((row['error_count'], row['progress']), (150, 0))
        provider.fault = None
        self.odoo('chatbot.chatbot', 'action_sync_all', [self.chatbot])
        self.odoo.wait('chatbot.chatbot', [self.chatbot], sync_requested=False, progress=100, error_count=0)
        self.assertEqual(set(self.odoo.read('chatbot.document', ids, 'status')), {'synced'})

    def test_settings_show_that_the_provider_is_down(self):
        provider.fault = 401
        [settings] = self.odoo('res.config.settings', 'create', [{}])
        [doctor] = self.odoo.read('res.config.settings', [settings], 'chatbot_doctor')
        self.assertIn("the mock says 401", doctor)
