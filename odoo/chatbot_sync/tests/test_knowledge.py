from odoo.exceptions import UserError, ValidationError
from odoo.tests import Form, tagged
from odoo.tools import mute_logger

from ..wizard import chatbot_knowledge_preview
from .common import KnowledgeCase


@tagged('post_install', '-at_install')
class TestKnowledge(KnowledgeCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.chair = cls.partner("Chair Factory", "<p>They make <b>wooden chairs</b>.</p><p>Since 1970.</p>")

    def test_connected_records_are_found_by_title_and_texts(self):
        knowledge = self.connect(self.knowledge(['name', 'comment'], title='name'))
        self.assertEqual((knowledge.state, knowledge.record_count, knowledge.progress), ('connected', 1, 100))
        self.assertEqual((self.chatbot.record_count, self.chatbot.progress), (1, 100))
        [passage] = self.chatbot.search_passages("wooden chairs", max_results=1)
        self.assertEqual((passage['source_type'], passage['source_id']), ('res.partner', self.chair.id))
        self.assertEqual(passage['content'], "Chair Factory\n\nThey make wooden chairs.\n\nSince 1970.")
        self.assertEqual(passage['metadata']['title'], "Chair Factory")

    def test_texts_are_joined_in_their_order(self):
        self.connect(self.knowledge(['comment', 'name']))
        [passage] = self.chatbot.search_passages("wooden chairs", max_results=1)
        self.assertTrue(passage['content'].endswith("Since 1970.\n\nChair Factory"))

    def test_texts_that_change_places_are_joined_anew(self):
        knowledge = self.connect(self.knowledge(['name', 'comment']))
        first, second = knowledge.field_ids
        knowledge.field_ids = [(1, first.id, {'sequence': 2}), (1, second.id, {'sequence': 1})]
        self.sync()
        self.assertEqual(knowledge.state, 'connected')
        self.assertTrue(self.search_texts("wooden chairs")[0].endswith("Chair Factory"))

    def test_connecting_requests_a_sync(self):
        trigger = self.env.ref('chatbot_sync.ir_cron_sync_all')
        before = self.env['ir.cron.trigger'].search_count([('cron_id', '=', trigger.id)])
        knowledge = self.knowledge(['name'])
        knowledge.action_connect()
        self.assertTrue(knowledge.sync_requested)
        self.assertEqual((knowledge.pending_count, knowledge.progress), (1, 0))
        self.assertEqual(self.env['ir.cron.trigger'].search_count([('cron_id', '=', trigger.id)]), before + 1)

    def test_writes_are_followed(self):
        self.connect(self.knowledge(['name', 'comment'], title='name'))
        self.chair.comment = "<p>They make iron tables.</p>"
        self.assertIn("They make iron tables.", self.search_texts("iron tables")[0])
        other = self.partner("Lamp Factory", "<p>They make reading lamps.</p>")
        self.assertIn("They make reading lamps.", self.search_texts("reading lamps")[0])
        other.unlink()
        self.assertNotIn("reading lamps", "".join(self.search_texts("reading lamps")))

    def test_archived_record_is_not_found_until_it_is_restored(self):
        self.connect(self.knowledge(['name', 'comment']))
        embedded = self.embedded()
        self.chair.action_archive()
        self.assertNotIn("wooden", "".join(self.search_texts("wooden chairs")))
        self.chair.action_unarchive()
        self.assertIn("wooden", "".join(self.search_texts("wooden chairs")))
        self.assertEqual(self.embedded(), embedded)

    def test_record_that_leaves_the_filter_is_not_found(self):
        knowledge = self.connect(self.knowledge(['name', 'comment']))
        self.chair.ref = 'other'
        self.assertNotIn("wooden", "".join(self.search_texts("wooden chairs")))
        knowledge.invalidate_recordset()
        self.assertEqual(knowledge.record_count, 0)

    def test_changed_filter_holds_at_once_and_keeps_what_was_embedded(self):
        knowledge = self.connect(self.knowledge(['name', 'comment']))
        embedded = self.embedded()
        knowledge.domain = "[('ref', '=', 'other')]"
        self.sync()
        self.assertNotIn("wooden", "".join(self.search_texts("wooden chairs")))
        knowledge.domain = "[('ref', '=', 'known')]"
        self.sync()
        self.assertIn("wooden", "".join(self.search_texts("wooden chairs")))
        self.assertEqual(self.embedded(), embedded)

    def test_changed_texts_hold_after_the_sync(self):
        knowledge = self.connect(self.knowledge(['name', 'comment'], title='name'))
        knowledge.field_ids[0].unlink()
        self.assertEqual(knowledge.state, 'broken')
        knowledge.action_connect()
        self.sync()
        self.assertEqual(knowledge.state, 'connected')
        self.assertEqual(self.search_texts("wooden chairs")[0], "They make wooden chairs.\n\nSince 1970.")

    def test_records_of_two_chatbots_are_embedded_once(self):
        self.connect(self.knowledge(['name', 'comment']))
        other = self.env['chatbot.chatbot'].create({'name': "Other"})
        self.env.cr.execute("SELECT COALESCE(sum(embedded), 0) FROM chatbot_sync.sync_log")
        [embedded] = self.env.cr.fetchone()
        second = self.knowledge(['name', 'comment'], chatbot_id=other.id)
        second.action_connect()
        self.env.cr.execute("CALL chatbot_sync_all(%s)", [other.id])
        self.env.cr.execute("SELECT COALESCE(sum(embedded), 0) FROM chatbot_sync.sync_log")
        self.assertEqual(self.env.cr.fetchone()[0], embedded)
        self.assertTrue(other.search_passages("wooden chairs"))
        second.action_disconnect()
        self.assertFalse(other.search_passages("wooden chairs"))
        self.assertIn("wooden", "".join(self.search_texts("wooden chairs")))

    def test_disconnected_records_are_forgotten(self):
        knowledge = self.connect(self.knowledge(['name', 'comment']))
        knowledge.action_disconnect()
        self.assertEqual((knowledge.state, self.source_count()), ('draft', 0))
        self.assertNotIn("wooden", "".join(self.search_texts("wooden chairs")))
        self.chair.comment = "<p>They make iron tables.</p>"
        self.assertEqual(self.source_count(), 0)

    def test_deleted_connection_is_forgotten(self):
        self.connect(self.knowledge(['name'])).unlink()
        self.assertEqual(self.source_count(), 0)

    def test_deleted_chatbot_leaves_no_connection(self):
        knowledge = self.connect(self.knowledge(['name']))
        chatbot = self.chatbot
        chatbot.unlink()
        self.assertFalse(knowledge.exists())
        self.assertEqual(self.source_count(chatbot), 0)
        self.assertNotIn(('res.partner', chatbot.id), self.extension._attached_records())

    def test_connection_is_not_moved_to_another_chatbot(self):
        knowledge = self.connect(self.knowledge(['name']))
        with self.assertRaisesRegex(UserError, "Disconnect"):
            knowledge.chatbot_id = self.env['chatbot.chatbot'].create({'name': "Other"})

    def test_mode_of_the_settings_holds_for_records(self):
        self.connect(self.knowledge(['name', 'comment']))
        self.extension._attach('async')
        self.env.cr.execute("SELECT mode FROM chatbot_sync.host_table WHERE source_type = 'res.partner'")
        self.assertEqual(self.env.cr.fetchall(), [('async',)])
        self.assertIn("wooden", "".join(self.search_texts("wooden chairs")))
        self.chair.comment = "<p>They make iron tables.</p>"
        self.assertNotIn("iron", "".join(self.search_texts("iron tables")))
        self.env.flush_all()
        self.env.cr.execute("CALL chatbot_process_queue()")
        self.assertIn("iron", "".join(self.search_texts("iron tables")))

    def test_uninstalled_module_leaves_no_trigger(self):
        self.connect(self.knowledge(['name']))
        self.extension._detach()
        self.env.cr.execute("SELECT count(*) FROM chatbot_sync.host_table")
        self.assertEqual((self.env.cr.fetchone(), self.source_count()), ((0,), 0))

    def test_failed_records_are_shown_and_retried(self):
        knowledge = self.connect(self.knowledge(['name', 'comment']))
        # The state of a record whose provider was down.
        self.env.cr.execute(
            "UPDATE chatbot_sync.source SET status = 'error', error = 'down', content_hash = NULL"
            " WHERE chatbot_id = %s AND source_type = 'res.partner'",
            [self.chatbot.id],
        )
        knowledge.invalidate_recordset()
        self.assertEqual((knowledge.error_count, self.chatbot.error_count), (1, 1))
        self.assertIn(f'/odoo/res.partner/{self.chair.id}', knowledge.errors)
        self.assertIn("down", knowledge.errors)
        self.assertEqual(self.chatbot.action_open_errors()['res_model'], 'chatbot.knowledge')
        knowledge.action_retry()
        knowledge.invalidate_recordset()
        self.assertEqual(knowledge.pending_count, 1)
        self.sync()
        self.assertEqual((knowledge.error_count, knowledge.synced_count, knowledge.errors), (0, 1, False))

    def test_preview_counts_and_embeds_nothing(self):
        self.partner("Long", "<p>" + "A sentence about furniture. " * 200 + "</p>")
        self.partner("Other", "<p>Not counted.</p>", ref='other')
        embedded = self.embedded()
        knowledge = self.knowledge(['name', 'comment'], title='name')
        action = knowledge.action_preview()
        preview = self.env[action['res_model']].browse(action['res_id'])
        self.assertEqual(preview.record_count, 2)
        self.assertGreaterEqual(preview.chunk_count, 6)
        self.assertGreater(preview.token_count, 500)
        self.assertFalse(preview.estimated)
        self.assertIn("They make wooden chairs.", preview.passages)
        self.assertNotIn("Not counted", preview.passages)
        self.assertEqual((self.embedded(), self.source_count(), knowledge.state), (embedded, 0, 'draft'))
        self.env.cr.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'chatbot_preview%'")
        self.assertEqual(self.env.cr.fetchone(), (0,))
        self.connect(knowledge)
        self.env.cr.execute(
            "SELECT sum(chunk_count) FROM chatbot_sync.source WHERE chatbot_id = %s AND source_type = 'res.partner'",
            [self.chatbot.id],
        )
        self.assertEqual(self.env.cr.fetchone(), (preview.chunk_count,))

    def test_preview_of_many_records_is_estimated_from_a_part(self):
        self.patch(chatbot_knowledge_preview, 'SAMPLE', 2)
        for number in range(5):
            self.partner(f"Number {number}", "<p>A text.</p>")
        preview = self.env['chatbot.knowledge.preview']._create_for(self.knowledge(['name']))
        self.assertEqual((preview.record_count, preview.chunk_count, preview.estimated), (6, 6, True))

    def test_form_proposes_title_and_texts(self):
        with Form(self.env['chatbot.knowledge']) as form:
            form.chatbot_id = self.chatbot
            form.model_id = self.env['ir.model']._get('res.partner')
            self.assertEqual(form.domain, '[]')
        knowledge = form.record
        self.assertEqual(knowledge.title_field_id.name, 'name')
        self.assertEqual(knowledge._content_names()[0], 'name')
        self.assertIn('comment', knowledge._content_names())

    def test_unusable_fields_are_refused_with_the_reason(self):
        for name, model, reason in (
            ('barcode', 'res.partner', "each company"),
            ('email_formatted', 'res.partner', "not stored"),
            ('color', 'res.partner', "not a text"),
            ('email', 'res.users', "stored with Contact"),
        ):
            with self.subTest(name), self.assertRaisesRegex(ValidationError, reason), self.env.cr.savepoint():
                self.knowledge([name], model=model, domain='[]')
        with self.assertRaisesRegex(ValidationError, "No text"), self.env.cr.savepoint():
            self.knowledge([])
        with self.assertRaisesRegex(ValidationError, "related record"), self.env.cr.savepoint():
            self.knowledge(['name'], domain="[('country_id.code', '=', 'BE')]")
        with self.assertRaisesRegex(ValidationError, "table of its own"), self.env.cr.savepoint():
            self.env['chatbot.knowledge'].create({
                'chatbot_id': self.chatbot.id, 'model_id': self.env['ir.model']._get_id('base'),
            })

    @mute_logger('odoo.sql_db')
    def test_missing_kind_is_reported_with_the_statement_to_run(self):
        with self.assertRaisesRegex(UserError, r"SELECT chatbot_add_source_type\('res.country.group'\);"):
            self.knowledge(['name'], model='res.country.group', domain='[]').action_connect()
