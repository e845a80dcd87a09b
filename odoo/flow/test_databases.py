"""Duplicate, backup and restore, as Odoo's database manager does them."""

from .case import FlowCase, provider
from .client import URL, Odoo, OdooError, manage, row_counts, sql


class TestDatabases(FlowCase):
    def check_copy(self, database, chatbot):
        """Checks that a copied database works by itself."""
        odoo = Odoo(database)
        self.assertEqual(self.search_texts("vouchers", odoo, chatbot)[0], "Vouchers are valid for three years.")
        ids = odoo('chatbot.document', 'create', [{'name': "New", 'content': "Gadgets glow green.", 'chatbot_id': chatbot}])
        odoo.wait('chatbot.document', ids, status='synced')
        self.assertEqual(self.search_texts("gadgets glow", odoo, chatbot)[0], "Gadgets glow green.")
        self.assertEqual(sql(database, "SELECT check_name, detail FROM chatbot_doctor() WHERE status = 'error'"), [])
        self.assertEqual(sql(database, "SELECT * FROM chatbot_verify()"), [])
        return odoo

    def test_duplicate_works_and_uninstall_leaves_nothing(self):
        self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        manage('duplicate', name='flow', new_name='flow_copy')
        copy = self.check_copy('flow_copy', self.chatbot)
        self.assertEqual(len(self.search_texts("gadgets glow")), 2, "the original is not touched")
        [module] = copy('ir.module.module', 'search', [('name', '=', 'chatbot_sync')])
        copy('ir.module.module', 'button_immediate_uninstall', [module])
        for table in ('source', 'embedding', 'session', 'message', 'job'):
            self.assertEqual(sql('flow_copy', f"SELECT count(*) FROM chatbot_sync.{table}"), [(0,)], table)
        self.assertEqual(sql('flow_copy', "SELECT * FROM chatbot_sync.host_table"), [])
        Odoo('flow_copy')('ir.module.module', 'button_immediate_install', [module])
        [mode] = sql('flow_copy', "SELECT DISTINCT mode FROM chatbot_sync.host_table")
        self.assertEqual(mode, ('sync',))
        manage('drop', name='flow_copy')

    def test_restored_backup_works(self):
        self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        rows = {table: sql('flow', f"SELECT count(*) FROM chatbot_sync.{table}") for table in ('source', 'embedding', 'session', 'message')}
        # Odoo's role may not comment on an extension of a superuser, which pg_restore would report as a failure.
        for extension in ('vector', 'chatbot_sync'):
            sql('flow', f"COMMENT ON EXTENSION {extension} IS NULL")
        for backup_format in ('zip', 'dump'):
            with self.subTest(backup_format):
                name = f'flow_{backup_format}'
                backup = manage('backup', name='flow', backup_format=backup_format).content
                manage('restore', {'backup_file': (name, backup)}, name=name, copy='true')
                for table, count in rows.items():
                    self.assertEqual(sql(name, f"SELECT count(*) FROM chatbot_sync.{table}"), count, table)
                self.check_copy(name, self.chatbot)
                manage('drop', name=name)

    def test_neutralized_copies_send_nothing(self):
        self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        provider.requests.clear()
        manage('duplicate', name='flow', new_name='flow_neutral', neutralize_database='true')
        # Odoo does not neutralize a copy of the copy, since its rows already say that it is neutralized.
        manage('duplicate', name='flow_neutral', new_name='flow_neutral_too')
        for name in ('flow_neutral', 'flow_neutral_too'):
            with self.subTest(name):
                copy = Odoo(name)
                for mode in ('sync', 'async'):
                    self.set_mode(mode, copy)
                    ids = copy('chatbot.document', 'create', [{'name': mode, 'content': "A new text.", 'chatbot_id': self.chatbot}])
                    self.assertEqual(copy.read('chatbot.document', ids, 'status'), ['pending'])
                    copy('chatbot.document', 'action_retry', ids)
                active = copy('ir.cron', 'search_count', [('name', '=like', 'Chatbots: %')])
                self.assertEqual(active, 0)
                [link] = copy('chatbot.link', 'create', [{'url': URL, 'chatbot_id': self.chatbot}])
                with self.assertRaises(OdooError):
                    copy('chatbot.link', 'action_fetch', [link])
                # Other processes that could embed what is pending.
                sql(name, "CALL chatbot_process_queue()")
                sql(name, "CALL chatbot_sync_all()")
                self.assertEqual(copy.read('chatbot.document', ids, 'status'), ['pending'])
                copy('chatbot.chatbot', 'unlink', [self.chatbot])
                self.assertEqual(row_counts(name, self.chatbot), dict.fromkeys(('source', 'embedding', 'session', 'message', 'job'), 0))
                manage('drop', name=name)
        self.assertEqual(provider.requests, [])

    def test_duplicate_succeeds_while_workers_are_busy(self):
        self.set_mode('async')
        ids = self.documents(*(f"Text number {n}." for n in range(100)), "Vouchers are valid for three years.")
        manage('duplicate', name='flow', new_name='flow_busy')
        Odoo('flow_busy').wait('chatbot.document', ids, status='synced')
        self.odoo = Odoo('flow')
        self.odoo.wait('chatbot.document', ids, status='synced')
        self.check_copy('flow_busy', self.chatbot)
        manage('drop', name='flow_busy')
