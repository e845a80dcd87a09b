from odoo.tests import HttpCase, tagged


@tagged('post_install', '-at_install')
class TestTour(HttpCase):
    def test_tour_ends_with_an_answer(self):
        self.start_tour('/odoo', 'chatbot_sync_tour', login='admin')
