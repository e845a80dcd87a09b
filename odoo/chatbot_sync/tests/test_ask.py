from odoo.exceptions import UserError
from odoo.tests import tagged

from .common import ChatbotCase


@tagged('post_install', '-at_install')
class TestAsk(ChatbotCase):
    def ask(self, question):
        ask = self.env['chatbot.ask'].create({'chatbot_id': self.chatbot.id, 'question': question})
        action = ask.action_ask()
        self.assertEqual((action['res_model'], action['res_id']), ('chatbot.ask', ask.id))
        return ask

    def messages(self):
        self.env.cr.execute("SELECT role, content FROM chatbot_sync.message WHERE chatbot_id = %s ORDER BY id", [self.chatbot.id])
        return self.env.cr.fetchall()

    def test_passage_links_to_its_source(self):
        passage = self.ask("When is a refund paid?").passage_ids[0]
        self.assertEqual(passage.source, self.refunds)
        self.assertEqual(passage.source_url, f'/odoo/chatbot.document/{self.refunds.id}')
        self.assertGreater(passage.score, 0)

    def test_inflected_words_are_marked(self):
        passage = self.ask("When is a refund paid?").passage_ids[0]
        self.assertIn("<mark>Refunds</mark> are <mark>paid</mark>", passage.content)

    def test_html_in_texts_is_escaped(self):
        self.refunds.content = "Refunds & <script>alert(1)</script> x < y"
        passage = self.ask("refunds").passage_ids[0]
        self.assertNotIn("<script", passage.content)
        self.assertIn("&lt;", passage.content)

    def test_conversation_is_stored_until_it_is_closed(self):
        ask = self.ask("When is a refund paid?")
        ask.question = "And to whom?"
        ask.action_ask()
        self.assertEqual([role for role, _content in self.messages()], ['user', 'assistant'] * 2)
        self.assertIn("Refunds are paid", self.messages()[1][1])
        self.assertIn("When is a refund paid?", ask.history)
        ask.action_close()
        ask.question = "Anybody there?"
        with self.assertRaises(UserError):
            ask.action_ask()

    def test_empty_question_is_refused(self):
        with self.assertRaises(UserError):
            self.ask("  ")

    def test_chatbot_without_sources_finds_nothing(self):
        self.refunds.unlink()
        self.assertFalse(self.ask("When is a refund paid?").passage_ids)

    def test_deleted_chatbot_leaves_no_rows_and_files(self):
        self.ask("When is a refund paid?")
        chatbot_id, attached = self.chatbot.id, self.env['ir.attachment'].search_count([('res_model', '=', 'chatbot.document')])
        self.document("File", file='SGVsbG8=', file_name='hello.txt')
        self.document("Archived", "Not found.", active=False)
        self.chatbot.unlink()
        for table in ('source', 'embedding', 'session', 'message', 'job'):
            with self.subTest(table):
                self.env.cr.execute(f"SELECT count(*) FROM chatbot_sync.{table} WHERE chatbot_id = %s", [chatbot_id])
                self.assertEqual(self.env.cr.fetchone(), (0,))
        self.assertEqual(self.env['ir.attachment'].search_count([('res_model', '=', 'chatbot.document')]), attached)
