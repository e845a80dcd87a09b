from odoo.tests import TransactionCase

# As a document's name this exceeds the limit of a source's metadata, so embedding fails without asking a provider.
TOO_LONG = 'x' * 70_000


class ChatbotCase(TransactionCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.extension = cls.env['chatbot.extension']
        cls.extension._attach('sync')
        cls.chatbot = cls.env['chatbot.chatbot'].create({'name': "Shop", 'lang': 'en_US'})
        cls.refunds = cls.document("Refunds", "Refunds are paid within ten days of the parcel's return.")

    @classmethod
    def document(cls, name, content=False, **values):
        return cls.env['chatbot.document'].create({
            'name': name, 'content': content, 'chatbot_id': cls.chatbot.id, **values,
        })

    def search_texts(self, question, **options):
        return [passage['content'] for passage in self.chatbot.search_passages(question, **options)]
