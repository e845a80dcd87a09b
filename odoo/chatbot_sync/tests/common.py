import unittest

from odoo.exceptions import UserError
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


class KnowledgeCase(ChatbotCase):
    """Partners are the records: every database has them. Only those that a test makes fulfil the filter."""

    model = 'res.partner'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if cls.model not in cls.env:
            raise unittest.SkipTest(f"{cls.model} is not installed")
        cls.require_source_type(cls.model)

    @classmethod
    def require_source_type(cls, name):
        """Skips the test where a superuser has to add the kind first."""
        try:
            cls.extension._add_source_type(name)
        except UserError as error:
            raise unittest.SkipTest(str(error)) from error

    @classmethod
    def field(cls, name, model=None):
        return cls.env['ir.model.fields']._get(model or cls.model, name)

    @classmethod
    def knowledge(cls, names, title=None, domain="[('ref', '=', 'known')]", model=None, **values):
        return cls.env['chatbot.knowledge'].create({
            'chatbot_id': cls.chatbot.id,
            'model_id': cls.env['ir.model']._get_id(model or cls.model),
            'title_field_id': title and cls.field(title, model).id,
            'field_ids': [(0, 0, {'field_id': cls.field(name, model).id, 'sequence': at}) for at, name in enumerate(names)],
            'domain': domain,
            **values,
        })

    @classmethod
    def partner(cls, name, comment=False, **values):
        return cls.env['res.partner'].create({'name': name, 'comment': comment, 'ref': 'known', **values})

    def sync(self):
        """Embeds what is pending, as the scheduled action does after the commit."""
        self.env.flush_all()
        self.env.cr.execute("CALL chatbot_sync_all(%s)", [self.chatbot.id])
        self.env.invalidate_all()

    def connect(self, knowledge):
        knowledge.action_connect()
        self.sync()
        return knowledge

    def embedded(self):
        """Returns how many chunks were embedded so far."""
        self.env.flush_all()
        self.env.cr.execute(
            "SELECT COALESCE(sum(embedded), 0) FROM chatbot_sync.sync_log WHERE chatbot_id = %s", [self.chatbot.id],
        )
        return self.env.cr.fetchone()[0]

    def source_count(self, chatbot=None):
        self.env.flush_all()
        self.env.cr.execute(
            "SELECT count(*) FROM chatbot_sync.source WHERE chatbot_id = %s AND source_type = %s",
            [(chatbot or self.chatbot).id, self.model],
        )
        return self.env.cr.fetchone()[0]
