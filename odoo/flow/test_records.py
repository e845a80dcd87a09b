"""Documents and links, embedded in the transaction that saves them."""

import base64
import threading

from .case import FlowCase, provider
from .client import URL, Odoo, OdooError, row_counts


class TestRecords(FlowCase):
    def test_documents_are_followed_through_create_update_delete(self):
        ids = self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        self.assertEqual(self.odoo.read('chatbot.document', ids, 'status'), ['synced', 'synced'])
        self.assertEqual(len(provider.requests), 1)
        self.assertEqual(self.search_texts("vouchers")[0], "Vouchers are valid for three years.")
        self.odoo('chatbot.document', 'write', ids[1:], {'content': "Vouchers are valid for two years."})
        self.assertEqual(self.search_texts("vouchers")[0], "Vouchers are valid for two years.")
        provider.requests.clear()
        self.odoo('chatbot.document', 'write', ids, {'active': False})
        self.assertEqual(self.search_texts("vouchers"), [])
        self.odoo('chatbot.document', 'write', ids, {'active': True, 'name': "Other"})
        self.assertEqual(len(self.search_texts("vouchers")), 2)
        self.assertEqual(len(provider.requests), 2, "only the questions are embedded")
        self.odoo('chatbot.document', 'unlink', ids[1:])
        self.assertEqual(self.search_texts("vouchers"), ["Refunds are paid within ten days."])

    def test_many_documents_share_requests(self):
        ids = self.documents(*(f"The answer to question {n} is {n + 1}." for n in range(250)))
        self.assertEqual(set(self.odoo.read('chatbot.document', ids, 'status')), {'synced'})
        self.assertEqual(sum(map(len, provider.requests)), 250)
        self.assertLessEqual(len(provider.requests), 5, "not a request a document")
        [progress] = self.odoo.read('chatbot.chatbot', [self.chatbot], 'progress')
        self.assertEqual(progress, 100)
        self.odoo('chatbot.document', 'unlink', ids)
        self.assertEqual(row_counts('flow', self.chatbot), dict.fromkeys(('source', 'embedding', 'session', 'message', 'job'), 0))

    def test_uploaded_file_is_read_or_has_a_reason(self):
        file = base64.b64encode("Grüße aus Köln".encode()).decode()
        ids = self.odoo('chatbot.document', 'create', [
            {'file': file, 'file_name': 'letter.txt', 'chatbot_id': self.chatbot},
            {'file': base64.b64encode(b'%PDF-1.4 cut off').decode(), 'file_name': 'letter.pdf', 'chatbot_id': self.chatbot},
        ])
        good, bad = self.odoo.read('chatbot.document', ids, 'name', 'status', 'content', 'status_reason')
        self.assertEqual((good['name'], good['status'], good['content']), ('letter.txt', 'synced', "Grüße aus Köln"))
        self.assertEqual(bad['status'], 'error')
        self.assertIn("broken", bad['status_reason'])

    def test_deleted_chatbot_leaves_nothing(self):
        self.documents("Refunds are paid within ten days.")
        [ask] = self.odoo('chatbot.ask', 'create', [{'chatbot_id': self.chatbot, 'question': "When are refunds paid?"}])
        self.odoo('chatbot.ask', 'action_ask', [ask])
        self.assertGreater(min(count for table, count in row_counts('flow', self.chatbot).items() if table != 'job'), 0)
        self.odoo('chatbot.chatbot', 'unlink', [self.chatbot])
        self.assertEqual(set(row_counts('flow', self.chatbot).values()), {0})

    def test_concurrent_writes_succeed(self):
        [document] = self.documents("The first text.")
        failures = []

        def write(content):
            try:
                Odoo('flow')('chatbot.document', 'write', [document], {'content': content})
            except OdooError as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(f"Text number {n}.",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        [row] = self.odoo.read('chatbot.document', [document], 'status', 'content')
        self.assertEqual(row['status'], 'synced')
        self.assertEqual(self.search_texts("text number"), [row['content']])

    def test_link_is_fetched_unless_its_address_is_private(self):
        self.odoo('ir.config_parameter', 'set_param', 'chatbot_sync.allow_private_addresses', 'True')
        [link] = self.odoo('chatbot.link', 'create', [{'url': URL + '/web/login', 'chatbot_id': self.chatbot}])
        self.odoo.wait('chatbot.link', [link], status='synced')
        self.odoo('ir.config_parameter', 'set_param', 'chatbot_sync.allow_private_addresses', '')
        self.odoo('chatbot.link', 'action_fetch', [link])
        [row] = self.odoo.read('chatbot.link', [link], 'status', 'status_reason')
        self.assertEqual(row['status'], 'error')
        self.assertIn("not a public address", row['status_reason'])
