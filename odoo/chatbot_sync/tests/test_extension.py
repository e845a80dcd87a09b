import psycopg2

from odoo.exceptions import UserError
from odoo.tests import Form, tagged
from odoo.tools import SQL, mute_logger

from ..hooks import check_version, post_init_hook, pre_init_hook, uninstall_hook
from .common import TOO_LONG, ChatbotCase


@tagged('post_install', '-at_install')
class TestExtension(ChatbotCase):
    def raise_sqlstate(self, code):
        self.extension._query(SQL(
            "DO %s", f"BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}', DETAIL = 'because', HINT = 'do this'; END",
        ))

    def test_errors_that_odoo_handles_pass_unchanged(self):
        for code in ('40001', '40P01', '55P03', '25006', '57014', '23505'):
            with self.subTest(code), self.assertRaises(psycopg2.Error) as caught:
                self.raise_sqlstate(code)
            self.assertEqual(caught.exception.pgcode, code)

    def test_provider_errors_become_user_errors(self):
        for code in ('28000', '53000', '58030', 'HV000', 'F0000', '0A000'):
            with self.subTest(code), self.assertRaisesRegex(UserError, "(?s)no.*because.*do this"):
                self.raise_sqlstate(code)

    def test_failed_queries_are_not_logged(self):
        with self.assertNoLogs('odoo.sql_db', 'ERROR'), self.assertRaises(UserError):
            self.chatbot.search_passages("secret", max_results=0)

    def test_mode_is_kept_and_existing_passages_stay(self):
        settings = self.env['res.config.settings'].create({'chatbot_mode': 'async'})
        settings.set_values()
        self.assertEqual(self.extension._mode(), 'async')
        self.assertEqual(self.env['res.config.settings'].create({}).chatbot_mode, 'async')
        # Passages that were embedded before are still found.
        self.assertTrue(self.search_texts("When are refunds paid?"))
        later = self.document("Later", "Parcels leave the same day.")
        self.assertEqual(later.status, 'pending')
        self.assertNotIn(later.content, self.search_texts("parcels"))
        self.env.cr.execute("CALL chatbot_process_queue()")
        later.invalidate_recordset()
        self.assertEqual(later.status, 'synced')
        self.assertIn(later.content, self.search_texts("parcels"))

    def test_retry_in_mode_async_makes_documents_pending(self):
        self.extension._attach('async')
        failed = self.document(TOO_LONG, "A text.")
        self.env.cr.execute("CALL chatbot_process_queue()")
        failed.invalidate_recordset()
        self.assertEqual(failed.status, 'error')
        self.assertIn("metadata", failed.status_reason)
        failed.action_retry()
        self.assertEqual(failed.status, 'pending')
        self.env.cr.execute("CALL chatbot_process_queue()")
        failed.invalidate_recordset()
        self.assertEqual(failed.status, 'error')

    def test_settings_show_what_is_wrong(self):
        self.document(TOO_LONG, "A text.")
        with Form(self.env['res.config.settings']) as form:
            self.assertIn('text-bg-danger', form.chatbot_doctor)
            self.assertIn('sources in error', form.chatbot_doctor)

    def test_existing_rows_are_synced(self):
        for table in ('chatbot_document', 'chatbot_link', 'chatbot_chatbot'):
            self.env.cr.execute("SELECT chatbot_detach(%s::regclass)", [table])
        document = self.document("Before", "Vouchers are valid for three years.")
        self.assertEqual((document.status, self.extension._mode()), ('pending', False))
        post_init_hook(self.env)
        self.patch(type(self.extension), '_call', lambda self, procedure: self.env.cr.execute(procedure))
        self.patch(self.env.cr, 'commit', lambda: None)
        self.chatbot.action_sync_all()
        self.assertTrue(self.chatbot.sync_requested)
        self.env['chatbot.chatbot']._cron_sync_all()
        self.env.invalidate_all()
        self.assertFalse(self.chatbot.sync_requested)
        self.assertEqual(document.status, 'synced')
        self.assertEqual(self.chatbot.progress, 100)

    def test_uninstalled_module_leaves_nothing(self):
        chatbot_id = self.chatbot.id
        uninstall_hook(self.env)
        self.assertFalse(self.extension._mode())
        self.env.cr.execute("SELECT count(*) FROM chatbot_sync.source WHERE chatbot_id = %s", [chatbot_id])
        self.assertEqual(self.env.cr.fetchone(), (0,))
        post_init_hook(self.env)
        self.assertEqual(self.extension._mode(), 'sync')

    @mute_logger('odoo.sql_db')
    def test_missing_rights_are_reported_with_statements_to_run(self):
        pre_init_hook(self.env)  # does not raise: the extension and its privileges exist
        with self.assertRaisesRegex(UserError, r"(?s)may not use.*CREATE EXTENSION.*chatbot_grant\('"):
            execute = type(self.env).execute_query
            self.patch(type(self.env), 'execute_query', lambda self, query: [[False]] if 'has_function' in query.code else execute(self, query))
            pre_init_hook(self.env)

    def test_older_extension_is_refused_with_the_statement_to_run(self):
        self.patch(type(self.env), 'execute_query', lambda self, query: [['0.2.0']])
        with self.assertRaisesRegex(UserError, r"(?s)0\.2\.0.*ALTER EXTENSION chatbot_sync UPDATE;"):
            check_version(self.env)
