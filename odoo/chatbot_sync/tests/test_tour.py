from odoo.exceptions import UserError
from odoo.tests import HttpCase, tagged


@tagged('post_install', '-at_install')
class TestTour(HttpCase):
    def test_tour_ends_with_an_answer(self):
        self.start_tour('/odoo', 'chatbot_sync_tour', login='admin')

    def test_connected_records_answer(self):
        try:
            self.env['chatbot.extension']._add_source_type('res.partner')
        except UserError as error:
            self.skipTest(str(error))
        chatbot = self.env['chatbot.chatbot'].create({'name': "Tour chatbot", 'lang': 'en_US'})
        self.env['res.partner'].create({'name': "Chair Factory", 'comment': "<p>They make wooden chairs.</p>"})
        self.start_tour('/odoo', 'chatbot_knowledge_connect_tour', login='admin')
        self.env.cr.execute("CALL chatbot_sync_all(%s)", [chatbot.id])  # as the scheduled action does after the commit
        self.start_tour('/odoo', 'chatbot_knowledge_ask_tour', login='admin')
