"""What the tests share."""

import unittest

from .client import Odoo
from .mock_provider import Provider

provider = Provider()


class FlowCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.odoo = Odoo('flow')

    def setUp(self):
        provider.fault = None
        self.set_mode('sync')
        [self.chatbot] = self.odoo('chatbot.chatbot', 'create', [{'name': self.id().rpartition('.')[2]}])
        provider.requests.clear()

    @classmethod
    def set_mode(cls, mode, odoo=None):
        odoo = odoo or cls.odoo
        [settings] = odoo('res.config.settings', 'create', [{'chatbot_mode': mode}])
        odoo('res.config.settings', 'execute', [settings])

    def documents(self, *contents, **values):
        return self.odoo('chatbot.document', 'create', [
            {'name': f"Document {n}", 'content': content, 'chatbot_id': self.chatbot, **values} for n, content in enumerate(contents)
        ])

    def search_texts(self, question, odoo=None, chatbot=None):
        passages = (odoo or self.odoo)('chatbot.chatbot', 'search_passages', [chatbot or self.chatbot], question)
        return [passage['content'] for passage in passages]
