from odoo.tests import tagged

from .common import KnowledgeCase


@tagged('post_install', '-at_install')
class TestKnowledgeUpgrade(KnowledgeCase):
    """What updates and uninstalls of other modules do to the tables of connected records."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.own = cls.make_field('x_note', 'text')
        cls.chair = cls.partner("Chair Factory", "<p>They make chairs.</p>", x_note="Made of oak.")

    @classmethod
    def make_field(cls, name, ttype, **values):
        return cls.env['ir.model.fields'].create({
            'name': name, 'ttype': ttype, 'field_description': name, 'model_id': cls.env['ir.model']._get_id('res.partner'), **values,
        })

    def test_removed_text_is_not_found_and_the_others_are(self):
        knowledge = self.connect(self.knowledge(['name', 'x_note']))
        self.assertIn("oak", self.search_texts("oak")[0])
        self.own.unlink()
        self.sync()
        self.assertEqual((knowledge.state, knowledge._content_names()), ('connected', ['name']))
        self.assertNotIn("oak", "".join(self.search_texts("oak")))
        self.assertIn("Chair Factory", self.search_texts("chair factory"))

    def test_removed_title_leaves_the_texts(self):
        title = self.make_field('x_title', 'char')
        self.chair.x_title = "Furniture"
        knowledge = self.connect(self.knowledge(['name'], title='x_title'))
        title.unlink()
        self.sync()
        self.assertEqual((knowledge.state, knowledge.title_field_id.name), ('connected', False))
        [passage] = self.chatbot.search_passages("chair factory", max_results=1)
        self.assertNotIn('title', passage['metadata'])

    def test_last_text_removed_forgets_and_says_so(self):
        knowledge = self.connect(self.knowledge(['x_note']))
        self.own.unlink()
        self.assertEqual((knowledge.state, self.source_count()), ('broken', 0))
        self.assertIn("No text", knowledge.state_reason)
        self.chair.name = "Still saved"
        self.env.flush_all()
        knowledge.action_disconnect()
        self.assertEqual(knowledge.state, 'draft')

    def test_field_of_the_filter_removed_forgets_and_says_so(self):
        flag = self.make_field('x_known', 'boolean')
        self.chair.x_known = True
        knowledge = self.connect(self.knowledge(['name'], domain="[('x_known', '=', True)]"))
        self.assertEqual(knowledge.record_count, 1)
        flag.unlink()
        knowledge.invalidate_recordset()
        self.assertEqual((knowledge.state, self.source_count()), ('broken', 0))
        self.assertIn("no field x_known", knowledge.state_reason)
        knowledge.domain = "[('ref', '=', 'known')]"
        self.connect(knowledge)
        self.assertEqual((knowledge.state, knowledge.record_count), ('connected', 1))

    def test_text_that_becomes_translated_is_followed(self):
        knowledge = self.connect(self.knowledge(['x_note']))
        # As an update of a module does where a field gets translate=True.
        self.env.cr.execute(
            "ALTER TABLE res_partner ALTER COLUMN x_note TYPE jsonb"
            " USING CASE WHEN x_note IS NOT NULL THEN jsonb_build_object('en_US', x_note) END",
        )
        self.sync()
        self.assertEqual(self.search_texts("oak")[0], "Made of oak.")
        self.assertEqual(knowledge.state, 'connected')

    def test_removed_model_takes_its_connection_along(self):
        self.require_source_type('x_article')
        model = self.env['ir.model'].create({
            'name': "Article", 'model': 'x_article',
            'field_id': [(0, 0, {'name': 'x_name', 'ttype': 'char', 'field_description': "Name"})],
        })
        self.env['x_article'].create({'x_name': "Oak is a hard wood."})
        knowledge = self.connect(self.knowledge(['x_name'], model='x_article', domain='[]'))
        self.assertIn("Oak is a hard wood.", self.search_texts("oak"))
        model.unlink()
        self.env.invalidate_all()
        self.assertFalse(knowledge.exists())
        self.assertFalse(self.extension._attached_records())
        self.assertNotIn("Oak is a hard wood.", self.search_texts("oak"))
        self.assertEqual(self.chatbot.record_count, 0)

    def test_translations_of_a_new_language_are_found(self):
        self.env['ir.model.fields'].create({
            'name': 'x_translated', 'ttype': 'char', 'field_description': "Translated", 'translate': 'standard',
            'model_id': self.env['ir.model']._get_id('res.partner'),
        })
        self.chair.x_translated = "Wooden furniture"
        self.connect(self.knowledge(['x_translated']))
        self.env['res.lang']._activate_lang('fr_FR')
        self.chair.with_context(lang='fr_FR').x_translated = "Meubles en bois"
        self.env.flush_all()
        passages = self.chatbot.search_passages("meubles en bois")
        self.assertIn(("Meubles en bois", 'fr_FR'), [(passage['content'], passage['metadata'].get('lang')) for passage in passages])
        self.assertIn("Wooden furniture", self.search_texts("wooden furniture"))
