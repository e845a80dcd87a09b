from odoo.modules.neutralize import get_neutralization_queries
from odoo.tests import tagged

from .common import ChatbotCase


@tagged('post_install', '-at_install')
class TestNeutralize(ChatbotCase):
    def setUp(self):
        super().setUp()
        [self.statements] = get_neutralization_queries(['chatbot_sync'])

    def settings_of_database(self):
        self.env.cr.execute(
            "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
            " WHERE datname = current_database() AND setrole = 0"
        )
        return [setting for [setting] in self.env.cr.fetchall()]

    def test_copy_embeds_nothing_runs_nothing_and_fetches_nothing(self):
        self.env.cr.execute(self.statements)
        self.env.invalidate_all()
        self.assertIn('chatbot_sync.enabled=off', self.settings_of_database())
        crons = self.env['ir.cron'].with_context(active_test=False).search([('name', '=like', 'Chatbots: %')])
        self.assertEqual(crons.mapped('active'), [False] * 3)
        self.assertTrue(self.env['chatbot.link']._is_paused())
        document = self.document("New", "Vouchers are valid for three years.")
        self.assertEqual(document.status, 'pending')
        # Deleting a document deletes its vectors all the same.
        self.refunds.unlink()
        self.env.cr.execute("SELECT count(*) FROM chatbot_sync.embedding WHERE chatbot_id = %s", [self.chatbot.id])
        self.assertEqual(self.env.cr.fetchone(), (0,))

    def test_neutralizing_twice_is_the_same_as_once(self):
        for _time in range(2):
            self.env.cr.execute(self.statements)
        self.assertEqual(self.settings_of_database().count('chatbot_sync.enabled=off'), 1)

    def test_database_without_the_extension_is_neutralized(self):
        self.patch_extension_away()
        self.env.cr.execute(self.statements)
        self.assertFalse(self.settings_of_database())
        self.env.invalidate_all()
        self.assertTrue(self.env['chatbot.link']._is_paused())

    def patch_extension_away(self):
        """Lets the statements look for an extension that does not exist: this role may not drop the real one."""
        self.statements = self.statements.replace("extname = 'chatbot_sync'", "extname = 'chatbot_sync_that_is_missing'")

    def test_copy_of_a_neutralized_database_is_neutralized_when_it_is_loaded(self):
        self.extension._register_hook()
        self.assertFalse(self.settings_of_database())
        self.env['ir.config_parameter'].set_param('database.is_neutralized', 'true')
        self.extension._register_hook()
        self.assertIn('chatbot_sync.enabled=off', self.settings_of_database())

    def test_neutralized_database_that_was_switched_on_stays_on(self):
        self.env['ir.config_parameter'].set_param('database.is_neutralized', 'true')
        self.env.cr.execute("SELECT format('ALTER DATABASE %I SET chatbot_sync.enabled = on', current_database())")
        [[statement]] = self.env.cr.fetchall()
        self.env.cr.execute("SELECT chatbot_chunk('')")
        self.env.cr.execute(statement)
        self.extension._register_hook()
        self.assertEqual(self.settings_of_database(), ['chatbot_sync.enabled=on'])
