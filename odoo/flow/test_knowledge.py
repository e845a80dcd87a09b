"""Knowledge from records: ten thousand products, with the built-in model and in a database of its own."""

import time

from .case import FlowCase
from .client import Odoo, OdooError, manage, sql

DATABASE = 'flow_products'
PRODUCTS = 10_000
MATERIALS = ("leather", "wool", "mesh", "felt", "velvet")


class TestKnowledge(FlowCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        manage('duplicate', name='flow', new_name=DATABASE)
        cls.addClassCleanup(lambda: manage('drop', name=DATABASE))
        sql(DATABASE, "SELECT chatbot_set_model('local', 'minilm-static-256')")
        sql(DATABASE, "CALL chatbot_reembed()")
        cls.products = Odoo(DATABASE)
        cls.set_mode('sync', cls.products)
        cls.ids = []
        for start in range(0, PRODUCTS, 1000):
            cls.ids += cls.products('product.template', 'create', [
                {
                    'name': f"Office chair {number}",
                    'description_sale': f"Chair number {number} has {number % 7 + 2} wheels, a seat of {MATERIALS[number % 5]} and arms.",
                    'description': f"<p>Store it in rack {number // 100}, <b>dry</b>.</p>",
                    'list_price': number + 1,
                }
                for number in range(start, start + 1000)
            ])

    def setUp(self):
        """Each test has a chatbot of its own."""
        [self.chatbot] = self.products('chatbot.chatbot', 'create', [{'name': self.id().rpartition('.')[2]}])

    def knowledge(self, domain="[('sale_ok', '=', True), ('list_price', '>', 0)]"):
        [model] = self.products('ir.model', 'search', [('model', '=', 'product.template')])
        names = ('name', 'description_sale', 'description')
        fields = {
            name: self.products('ir.model.fields', 'search', [('model_id', '=', model), ('name', '=', name)])[0] for name in names
        }
        [knowledge] = self.products('chatbot.knowledge', 'create', [{
            'chatbot_id': self.chatbot, 'model_id': model, 'title_field_id': fields['name'], 'domain': domain,
            'field_ids': [(0, 0, {'field_id': fields[name], 'sequence': at}) for at, name in enumerate(names)],
        }])
        return knowledge

    def connect(self, knowledge):
        self.products('chatbot.knowledge', 'action_connect', [knowledge])
        # The scheduler of this server runs the actions of the database flow alone.
        [cron] = self.products('ir.cron', 'search', [('name', '=like', "Chatbots: embed what waits%")])
        self.products('ir.cron', 'method_direct_trigger', [cron])
        self.products.wait('chatbot.knowledge', [knowledge], progress=100, sync_requested=False)
        return knowledge

    def found(self, question):
        return self.products('chatbot.chatbot', 'search_passages', [self.chatbot], question)

    def test_products_are_connected_and_followed(self):
        knowledge = self.knowledge()
        start = time.monotonic()
        action = self.products('chatbot.knowledge', 'action_preview', [knowledge])
        [preview] = self.products.read(action['res_model'], [action['res_id']], 'record_count', 'chunk_count', 'token_count')
        previewed = time.monotonic()
        self.assertEqual((preview['record_count'], preview['chunk_count']), (PRODUCTS, PRODUCTS))
        self.connect(knowledge)
        connected = time.monotonic()
        self.assertEqual(self.products.read('chatbot.knowledge', [knowledge], 'record_count'), [PRODUCTS])
        print(f"{PRODUCTS} products: previewed in {previewed - start:.1f} s, connected in {connected - previewed:.1f} s ", end='', flush=True)
        passages = self.found("Office chair 4711")
        self.assertEqual((passages[0]['source_type'], passages[0]['source_id']), ('product.template', self.ids[4711]))
        # A write that is no text, on a thousand records: their state is looked at, nothing is embedded.
        before = self.embedded()
        self.products('product.template', 'write', self.ids[:1000], {'list_price': 5})
        self.assertEqual(self.embedded(), before)
        self.products('product.template', 'write', self.ids[:1000], {'list_price': 0})
        self.assertEqual(self.products.read('chatbot.knowledge', [knowledge], 'record_count'), [PRODUCTS - 1000])
        self.products('product.template', 'write', self.ids[:1000], {'list_price': 5})
        self.assertEqual(self.embedded(), before)
        self.products('product.template', 'write', self.ids[4711:4712], {'description_sale': "It swims."})
        self.assertIn("It swims.", self.found("Does a chair swim?")[0]['content'])
        self.assertEqual(self.embedded(), before + 1)
        self.assertEqual(sql(DATABASE, "SELECT * FROM chatbot_verify()"), [])
        self.products('chatbot.knowledge', 'action_disconnect', [knowledge])
        self.assertEqual(sql(DATABASE, "SELECT count(*) FROM chatbot_sync.source WHERE chatbot_id = %s", self.chatbot), [(0,)])

    def embedded(self):
        return sql(DATABASE, "SELECT COALESCE(sum(embedded), 0) FROM chatbot_sync.sync_log WHERE chatbot_id = %s", self.chatbot)[0][0]

    def test_uninstalled_model_takes_its_connection_along(self):
        self.connect(self.knowledge())
        manage('duplicate', name=DATABASE, new_name='flow_uninstall')
        try:
            copy = Odoo('flow_uninstall')
            [module] = copy('ir.module.module', 'search', [('name', '=', 'product')])
            copy('ir.module.module', 'button_immediate_uninstall', [module])
            copy = Odoo('flow_uninstall')
            self.assertEqual(copy('chatbot.knowledge', 'search_count', []), 0)
            self.assertEqual(copy('chatbot.chatbot', 'search_passages', [self.chatbot], "office chair"), [])
            self.assertEqual(sql('flow_uninstall', "SELECT count(*) FROM chatbot_sync.source WHERE source_type = 'product.template'"), [(0,)])
            self.assertEqual(sql('flow_uninstall', "SELECT * FROM chatbot_sync.host_table WHERE source_type = 'product.template'"), [])
            self.assertEqual(sql('flow_uninstall', "SELECT check_name, detail FROM chatbot_doctor() WHERE status = 'error'"), [])
            self.assertEqual(sql('flow_uninstall', "SELECT * FROM chatbot_verify()"), [])
        finally:
            manage('drop', name='flow_uninstall')

    def test_updated_module_keeps_its_connection(self):
        knowledge = self.connect(self.knowledge())
        [module] = self.products('ir.module.module', 'search', [('name', '=', 'product')])
        self.products('ir.module.module', 'button_immediate_upgrade', [module])
        type(self).products = Odoo(DATABASE)
        self.assertEqual(self.products.read('chatbot.knowledge', [knowledge], 'state'), ['connected'])
        self.assertTrue(self.found("office chair"))

    def test_missing_kind_names_the_statement(self):
        [model] = self.products('ir.model', 'search', [('model', '=', 'product.category')])
        [name] = self.products('ir.model.fields', 'search', [('model_id', '=', model), ('name', '=', 'name')])
        [knowledge] = self.products('chatbot.knowledge', 'create', [{
            'chatbot_id': self.chatbot, 'model_id': model, 'field_ids': [(0, 0, {'field_id': name})],
        }])
        with self.assertRaises(OdooError) as caught:
            self.products('chatbot.knowledge', 'action_connect', [knowledge])
        statement = next(line for line in str(caught.exception).splitlines() if line.startswith("SELECT chatbot_add_source_type"))
        sql(DATABASE, statement)
        self.connect(knowledge)
        self.assertTrue(self.found("goods"))
