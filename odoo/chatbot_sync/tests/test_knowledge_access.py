from odoo.exceptions import AccessError
from odoo.tests import new_test_user, tagged

from .common import KnowledgeCase


@tagged('post_install', '-at_install')
class TestKnowledgeAccess(KnowledgeCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.user = new_test_user(cls.env, 'knowledge user', 'chatbot_sync.group_chatbot_user')
        cls.manager = new_test_user(cls.env, 'knowledge manager', 'chatbot_sync.group_chatbot_manager')
        cls.env['ir.rule'].create({
            'name': "Secret partners", 'model_id': cls.env['ir.model']._get_id('res.partner'),
            'domain_force': "[('function', '!=', 'secret')]", 'groups': [(4, cls.env.ref('chatbot_sync.group_chatbot_user').id)],
        })
        cls.secrets = cls.env['res.partner'].create([
            {'name': f"Secret chair {number}", 'ref': 'known', 'function': 'secret', 'comment': "<p>Chairs of oak, secretly.</p>"}
            for number in range(30)
        ])
        cls.public = cls.partner("Public chair", "<p>Chairs of oak, for all.</p>")
        cls.connection = cls.knowledge(['name', 'comment'], title='name')
        cls.connection.action_connect()
        cls.env.flush_all()
        cls.env.cr.execute("CALL chatbot_sync_all(%s)", [cls.chatbot.id])
        cls.env.invalidate_all()

    def found(self, user, question="secret chairs of oak, secretly", **options):
        return {
            (passage['source_type'], passage['source_id'])
            for passage in self.chatbot.with_user(user).search_passages(question, **options)
        }

    def test_withheld_passages_are_filled_up_with_readable_ones(self):
        self.assertEqual(len(self.found(self.env.user)), 5)
        self.assertEqual(self.found(self.user), {('res.partner', self.public.id), ('document', self.refunds.id)})

    def test_number_of_results_is_that_asked_for(self):
        self.assertEqual(self.found(self.user, max_results=1), {('res.partner', self.public.id)})

    def test_answer_shows_and_stores_readable_records_only(self):
        ask = self.env['chatbot.ask'].with_user(self.user).create({'chatbot_id': self.chatbot.id, 'question': "chairs of oak"})
        ask.action_ask()
        sources = ask.passage_ids.mapped('source')
        self.assertIn(self.public, sources)
        self.assertFalse(set(self.secrets) & set(sources))
        passage = ask.passage_ids.filtered(lambda passage: passage.source == self.public)
        self.assertEqual(passage.source_url, f'/odoo/res.partner/{self.public.id}')
        self.assertEqual(passage.source.display_name, "Public chair")
        self.env.cr.execute("SELECT content FROM chatbot_sync.message WHERE chatbot_id = %s", [self.chatbot.id])
        self.assertNotIn("secretly", str(self.env.cr.fetchall()))

    def test_records_without_access_right_are_not_found(self):
        self.env['ir.model.access'].search([('model_id.model', '=', 'res.partner')]).perm_read = False
        self.env.registry.clear_cache('stable')
        self.assertEqual(self.found(self.user), {('document', self.refunds.id)})

    def test_records_with_a_text_that_the_user_may_not_read_are_not_found(self):
        self.patch(self.env['res.partner']._fields['comment'], 'groups', 'base.group_system')
        self.assertEqual(self.found(self.user), {('document', self.refunds.id)})
        self.assertIn(('res.partner', self.public.id), self.found(self.env.ref('base.user_admin'), "Chairs of oak, for all."))

    def test_deleted_records_are_not_found_where_their_triggers_did_not_fire(self):
        self.env.cr.execute("SELECT chatbot_detach('res_partner'::regclass, chatbot_id => %s)", [self.chatbot.id])
        self.public.unlink()
        self.assertEqual(self.found(self.user), {('document', self.refunds.id)})

    def test_companies_see_their_own_records(self):
        company = self.env['res.company'].create({'name': "Elsewhere"})
        self.public.company_id = company
        self.chatbot.company_id = False
        elsewhere = new_test_user(
            self.env, 'knowledge elsewhere', 'chatbot_sync.group_chatbot_user', company_id=company.id, company_ids=[(6, 0, company.ids)],
        )
        self.env.ref('base.res_partner_rule').active = True
        self.assertNotIn(('res.partner', self.public.id), self.found(self.user))
        self.assertIn(('res.partner', self.public.id), self.found(elsewhere))

    def test_manager_connects_and_user_only_reads(self):
        own = self.env['chatbot.chatbot'].with_user(self.manager).create({'name': "Mine"})
        knowledge = self.knowledge(['name'], chatbot_id=own.id).with_user(self.manager)
        knowledge.action_preview()
        knowledge.action_connect()
        self.assertEqual(knowledge.state, 'connected')
        self.assertEqual(knowledge.with_user(self.user).state, 'connected')
        for method in ('action_connect', 'action_disconnect', 'action_retry', 'action_preview', 'unlink'):
            with self.subTest(method), self.assertRaises(AccessError):
                getattr(knowledge.with_user(self.user), method)()
        knowledge.action_disconnect()

    def test_user_reads_the_state_of_connections(self):
        self.env.invalidate_all()
        connection = self.connection.with_user(self.user)
        [row] = connection.web_read({
            'display_name': {}, 'state': {}, 'state_reason': {}, 'record_count': {}, 'progress': {}, 'errors': {},
            'model_id': {'fields': {'display_name': {}}}, 'title_field_id': {'fields': {'display_name': {}}},
            'field_ids': {'fields': {'ttype': {}, 'field_id': {'fields': {'display_name': {}}}}},
        })
        self.assertEqual((row['state'], row['display_name'], row['record_count']), ('connected', "Contact (Shop)", 31))
        self.assertEqual(connection.action_open_records()['name'], "Contact")

    def test_preview_shows_readable_records_only(self):
        preview = self.env['chatbot.knowledge.preview'].with_user(self.manager)._create_for(self.connection.with_user(self.manager))
        self.assertIn("Public chair", preview.passages)
        self.assertNotIn("Secret chair", preview.passages)

    def test_manager_cannot_connect_what_they_may_not_read(self):
        knowledge = self.knowledge(['key', 'value'], model='ir.config_parameter', domain='[]')
        with self.assertRaises(AccessError):
            self.env['chatbot.knowledge.preview'].with_user(self.manager)._create_for(knowledge.with_user(self.manager))
        with self.assertRaises(AccessError):
            knowledge.with_user(self.manager)._attach()
        self.assertFalse(self.env['ir.model'].with_user(self.manager).has_access('write'))

    def test_connections_belong_to_the_company_of_their_chatbot(self):
        company = self.env['res.company'].create({'name': "Elsewhere"})
        elsewhere = new_test_user(
            self.env, 'knowledge elsewhere', 'chatbot_sync.group_chatbot_manager', company_id=company.id, company_ids=[(6, 0, company.ids)],
        )
        with self.assertRaises(AccessError):
            self.connection.with_user(elsewhere).read(['domain'])
        with self.assertRaises(AccessError):
            self.connection.field_ids.with_user(elsewhere).read(['sequence'])
