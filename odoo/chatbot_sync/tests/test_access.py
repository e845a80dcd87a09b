from odoo.exceptions import AccessError
from odoo.tests import new_test_user, tagged

from .common import ChatbotCase


@tagged('post_install', '-at_install')
class TestAccess(ChatbotCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.company = cls.env['res.company'].create({'name': "Other"})
        cls.user = new_test_user(cls.env, 'chatbot user', 'chatbot_sync.group_chatbot_user')
        cls.manager = new_test_user(cls.env, 'chatbot manager', 'chatbot_sync.group_chatbot_manager')
        cls.stranger = new_test_user(cls.env, 'chatbot stranger', 'base.group_user')
        cls.elsewhere = new_test_user(
            cls.env, 'chatbot elsewhere', 'chatbot_sync.group_chatbot_manager',
            company_id=cls.company.id, company_ids=[(6, 0, cls.company.ids)],
        )

    def test_user_without_group_has_no_access(self):
        with self.assertRaises(AccessError):
            self.chatbot.with_user(self.stranger).search_passages("refunds")
        with self.assertRaises(AccessError):
            self.env['chatbot.document'].with_user(self.stranger).search([])

    def test_user_edits_documents_and_asks_but_manages_no_chatbot(self):
        chatbot = self.chatbot.with_user(self.user)
        self.assertTrue(chatbot.search_passages("refunds"))
        document = self.env['chatbot.document'].with_user(self.user).create({
            'name': "Mine", 'content': "A text.", 'chatbot_id': chatbot.id,
        })
        self.assertEqual(document.status, 'synced')
        document.action_retry()
        document.unlink()
        ask = self.env['chatbot.ask'].with_user(self.user).create({'chatbot_id': chatbot.id, 'question': "refunds"})
        ask.action_ask()
        self.assertEqual(ask.passage_ids[0].source, self.refunds)
        with self.assertRaises(AccessError):
            chatbot.unlink()
        with self.assertRaises(AccessError):
            chatbot.action_sync_all()

    def test_manager_creates_syncs_and_deletes_chatbots(self):
        chatbot = self.env['chatbot.chatbot'].with_user(self.manager).create({'name': "Mine"})
        chatbot.action_sync_all()
        chatbot.unlink()

    def test_other_company_sees_only_chatbots_without_company(self):
        for records in (self.chatbot, self.refunds):
            with self.subTest(records), self.assertRaises(AccessError):
                records.with_user(self.elsewhere).read(['name'])
        with self.assertRaises(AccessError):
            self.chatbot.with_user(self.elsewhere).search_passages("refunds")
        self.chatbot.company_id = False
        self.assertTrue(self.chatbot.with_user(self.elsewhere).search_passages("refunds"))
        self.assertEqual(self.refunds.with_user(self.elsewhere).name, "Refunds")

    def test_questions_are_private_to_their_user(self):
        ask = self.env['chatbot.ask'].with_user(self.user).create({'chatbot_id': self.chatbot.id, 'question': "refunds"})
        with self.assertRaises(AccessError):
            ask.with_user(self.manager).read(['question'])
