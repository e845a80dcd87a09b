import contextlib

from odoo.tests import TransactionCase, tagged

from ..tools.condition import Untranslatable, condition_of

CHATBOT = 2**40  # no chatbot of Odoo


@tagged('post_install', '-at_install')
class TestCondition(TransactionCase):
    """A condition holds for exactly the records that ``search()`` finds: in SQL alone, and as the extension reads it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        country = cls.env.ref('base.be')
        cls.records = cls.env['res.partner'].create([
            {'name': "Anna", 'ref': "A-1", 'city': "Köln", 'color': 0, 'partner_latitude': 0, 'is_company': False},
            {'name': "anna%", 'ref': "", 'city': "KÖLN", 'color': 3, 'partner_latitude': 50.5, 'is_company': True},
            {'name': "It's \\ 100%", 'ref': "a_1", 'city': False, 'color': -1, 'country_id': country.id, 'type': 'invoice'},
            {'name': "Archived", 'active': False, 'type': False, 'comment': "<p>Old</p>", 'country_id': cls.env.ref('base.fr').id},
            {'name': "Child", 'comment': "<p>New</p>", 'lang': 'en_US', 'partner_latitude': -1},
        ])
        cls.records[4].parent_id = cls.records[1]
        # What other applications, older versions and SQL leave behind: columns without a value, and empty strings.
        cls.env.flush_all()
        cls.env.cr.execute(
            "UPDATE res_partner SET color = NULL, partner_latitude = NULL, is_company = NULL, ref = NULL, type = NULL WHERE id = %s",
            [cls.records[4].id],
        )
        cls.env.cr.execute("UPDATE res_partner SET city = '' WHERE id = %s", [cls.records[3].id])
        cls.env.cr.execute("UPDATE res_partner SET create_date = '2026-03-01 10:00:00.5' WHERE id = ANY (%s)", [cls.records[:2].ids])
        cls.env.invalidate_all()

    def check(self, domain):
        """Compares what fulfils the condition with what is found, archived records too."""
        model = self.env['res.partner']
        expected = model.sudo().search(domain)
        condition = condition_of(model, repr(domain))
        self.env.flush_all()
        self.env.cr.execute(f"SELECT id FROM res_partner WHERE {condition or True}")
        self.assertEqual({id for [id] in self.env.cr.fetchall()}, set(expected.ids), (domain, condition))
        with contextlib.closing(self.env.cr.savepoint()):
            self.env.cr.execute(
                "SELECT chatbot_attach('res_partner', 'document', content_column => 'name', chatbot_id => %s, condition => %s)",
                [CHATBOT, condition],
            )
            self.env.cr.execute("CALL chatbot_sync_all(%s)", [CHATBOT])
            self.env.cr.execute("SELECT source_id FROM chatbot_sync.source WHERE chatbot_id = %s AND enabled", [CHATBOT])
            self.assertEqual({id for [id] in self.env.cr.fetchall()}, set(expected.ids), (domain, condition))

    def test_every_operator_finds_what_search_finds(self):
        values = {
            'name': ["Anna", "anna%", "It's \\ 100%", False, ""],
            'ref': ["A-1", "a_1", False, ""],
            'city': ["Köln", False, ""],
            'color': [0, 3, -1, False],
            'partner_latitude': [0, 50.5, -1, False],
            'is_company': [True, False],
            'active': [True, False],
            'type': ['invoice', 'contact', False],
            'country_id': [self.env.ref('base.be').id, False],
            'parent_id': [self.records[1].id, False],
            'id': [self.records[0].id, False],
            'lang': ['en_US', False],
        }
        for name, of_field in values.items():
            collections = [of_field, of_field[:1], of_field[-1:], []]
            domains = [[(name, operator, value)] for operator in ('=', '!=', '=?') for value in of_field]
            domains += [[(name, operator, value)] for operator in ('in', 'not in') for value in collections]
            for domain in domains:
                with self.subTest(domain):
                    self.check_or_constant(domain)

    def check_or_constant(self, domain):
        """Checks a domain; one that no record fulfils is refused, and none is found."""
        try:
            self.check(domain)
        except Untranslatable as error:
            self.assertIn("excludes every record", str(error))
            self.assertFalse(self.env['res.partner'].search(domain))

    def test_inequalities_find_what_search_finds(self):
        for name, values in {
            'color': [0, 3, -1, False], 'partner_latitude': [0, 50.5, -0.5, False], 'name': ["Anna", "B"], 'ref': ["A-1", ""],
            'id': self.records.ids[:1],
            'create_date': ['2026-03-01 10:00:00', '2026-03-01 09:59:59', False],
        }.items():
            for operator in ('<', '>', '<=', '>='):
                for value in values:
                    with self.subTest((name, operator, value)):
                        self.check_or_constant([(name, operator, value)])

    def test_patterns_find_what_search_finds(self):
        operators = ('like', 'not like', 'ilike', 'not ilike', '=like', 'not =like', '=ilike', 'not =ilike')
        for name, values in {
            'name': ["anna", "Anna", "anna%", "100\\%", "'", "", False], 'ref': ["a_1", "A-%", ""], 'city': ["köln", "KÖLN", ""],
            'comment': ["new", "<p>Old</p>"],
        }.items():
            for operator in operators:
                for value in values:
                    with self.subTest((name, operator, value)):
                        self.check_or_constant([(name, operator, value)])

    def test_dates_find_what_search_finds(self):
        for operator in ('=', '!='):
            with self.subTest(operator):
                self.check([('create_date', operator, '2026-03-01 10:00:00')])
                self.check([('create_date', operator, False)])
        self.env['ir.model.fields'].create({
            'name': 'x_day', 'ttype': 'date', 'field_description': "Day", 'model_id': self.env['ir.model']._get_id('res.partner'),
        })
        self.records[0].x_day, self.records[1].x_day = '2026-03-01', '2026-03-02'
        for operator in ('=', '!=', '<', '>', '<=', '>=', 'in', 'not in'):
            for value in ('2026-03-01', '2026-03-02', False):
                with self.subTest((operator, value)):
                    self.check_or_constant([('x_day', operator, [value] if 'in' in operator else value)])

    def test_combinations_find_what_search_finds(self):
        for domain in (
            ['|', ('color', '>', 0), ('ref', '=', False)],
            ['!', ('color', '>', 0)],
            ['!', '|', ('color', '>', 0), ('name', 'like', "A")],
            ['&', ('is_company', '=', False), '!', ('country_id', 'in', [self.env.ref('base.be').id])],
            [('active', 'in', [True, False]), ('color', '<=', 0)],
            ['|', ('active', '=', False), ('city', '=', "Köln")],
            [('name', '!=', "Anna"), ('name', '!=', "Child"), ('name', 'not like', "arch")],
        ):
            with self.subTest(domain):
                self.check(domain)

    def test_model_without_archiving_and_filter_has_no_condition(self):
        self.assertIsNone(condition_of(self.env['res.currency.rate'], '[]'))

    def test_archived_records_do_not_fulfil_it_unless_the_filter_says_so(self):
        self.assertIn('"active"', condition_of(self.env['res.partner'], '[]'))
        self.assertEqual(condition_of(self.env['res.partner'], "[('active', '=', False)]").count('"active"'), 1)
        self.assertIsNone(condition_of(self.env['res.partner'], "[('active', 'in', [True, False])]"))

    def refuse(self, text, reason, model='res.partner'):
        with self.subTest(text), self.assertRaisesRegex(Untranslatable, reason):
            condition_of(self.env[model], text)

    def test_what_other_records_decide_is_refused(self):
        self.refuse("[('country_id.code', '=', 'BE')]", "related record")
        self.refuse("[('parent_id', 'child_of', 1)]", "child_of needs other records")
        self.refuse("[('parent_id', 'any', [('name', '=', 'Anna')])]", "any needs other records")
        self.refuse("[('country_id', 'ilike', 'Belgium')]", "ilike is not possible")
        self.refuse("[('country_id', '=', 'Belgium')]", "choose the record")
        self.refuse("[('category_id', '=', 1)]", "not stored in the table")
        self.refuse("[('display_name', '=', 'Anna')]", "not stored")
        self.refuse("[('login', '=', 'a'), ('name', '=', 'b')]", "not stored", 'res.users')

    def test_what_changes_by_itself_is_refused(self):
        self.refuse("[('user_id', '=', uid)]", "depends on uid")
        self.refuse("[('create_date', '>', context_today())]", r"depends on context_today\(\)")
        self.refuse("[('create_date', '>', 'today -3d')]", "changes with the day")
        self.refuse("[('create_date', '>', 'now')]", "changes with the day")
        self.refuse("[('create_date', '>', '2026-03-01')]", "time zone")

    def test_what_has_several_values_is_refused(self):
        self.refuse("[('barcode', '=', '1')]", "each company")
        self.refuse("[('name', '=', 'Anna')]", "each language", 'res.country')

    def test_what_is_no_domain_is_refused(self):
        self.refuse("[('name', '=')]", "not a domain")
        self.refuse("name = 'Anna'", "not a domain")
        self.refuse("[('nothing', '=', 1)]", "no field nothing")
        self.refuse("[('name', 'is', 1)]", "not a domain")
        self.refuse("[('id', 'in', [])]", "excludes every record")
        self.refuse("[('create_date', '>', 'soon')]", "changes with the day")

    def test_patterns_without_accents_are_refused(self):
        self.patch(self.env.registry, 'has_unaccent', True)
        self.refuse("[('name', 'ilike', 'anna')]", "unaccent")
        self.assertIn('LIKE', condition_of(self.env['res.partner'], "[('name', 'like', 'anna')]"))
