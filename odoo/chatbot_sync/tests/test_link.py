from datetime import timedelta
from unittest.mock import patch

from odoo import fields
from odoo.exceptions import UserError, ValidationError
from odoo.tests import tagged
from odoo.tests.common import _super_send

from . import samples
from .common import ChatbotCase
from .server import serving

PAGE = "<html><head><title>Shipping</title></head><body><article><p>%s</p></article></body></html>"
SAID = "Parcels leave the same day if they are ordered before noon."


@tagged('post_install', '-at_install')
class TestLink(ChatbotCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.env['ir.config_parameter'].set_param('chatbot_sync.allow_private_addresses', 'True')

    @classmethod
    def _request_handler(cls, s, r, /, **kw):
        return _super_send(s, r, **kw)

    def link(self, server, path='/', **values):
        return self.env['chatbot.link'].create({
            'url': f'http://127.0.0.1:{server.port}{path}', 'chatbot_id': self.chatbot.id, **values,
        })

    def cron(self):
        """Runs the scheduled action within the test's transaction."""
        with patch.object(self.env.cr, 'commit', lambda: None):
            self.env['chatbot.link']._cron_fetch()

    def test_fetched_page_is_found(self):
        with serving(lambda handler: handler.say(200, (PAGE % SAID).encode())) as server:
            link = self.link(server)
            self.assertEqual(link.status, 'pending')
            self.cron()
        self.assertEqual(link.status, 'synced')
        self.assertEqual(link.title, "Shipping")
        self.assertEqual(link.display_name, "Shipping")
        self.assertTrue(link.scraped_at)
        [passage] = [p for p in self.chatbot.search_passages("When does my parcel leave?") if p['source_type'] == 'link']
        self.assertEqual(passage['source_id'], link.id)
        self.assertEqual(passage['metadata']['url'], link.url)

    def test_pdf_at_an_address_is_read(self):
        with serving(lambda handler: handler.say(200, samples.pdf(SAID), Content_Type='application/pdf')) as server:
            link = self.link(server, '/terms.pdf')
            link.action_fetch()
        self.assertEqual((link.status, link.content), ('synced', SAID))

    def test_unchanged_page_is_only_checked(self):
        def answer(handler):
            if handler.headers.get('If-None-Match') == '"1"':
                handler.say(304)
            else:
                handler.say(200, (PAGE % SAID).encode(), ETag='"1"')

        with serving(answer) as server:
            link = self.link(server)
            link.action_fetch()
            long_ago = fields.Datetime.now() - timedelta(days=30)
            link.write({'scraped_at': long_ago, 'checked_at': long_ago})
            self.cron()
            self.assertGreater(link.scraped_at, long_ago)
            self.assertEqual(link.status, 'synced')
            self.cron()  # does nothing: it was checked just now
        self.assertEqual(len(server.requests), 2)

    def test_links_are_not_fetched_again_without_an_interval(self):
        self.env['ir.config_parameter'].set_param('chatbot_sync.rescrape_days', False)
        with serving(lambda handler: handler.say(200, (PAGE % SAID).encode())) as server:
            link = self.link(server)
            self.cron()
            link.checked_at = fields.Datetime.now() - timedelta(days=1000)
            self.cron()
        self.assertEqual(len(server.requests), 1)

    def test_failed_fetch_keeps_the_text(self):
        answers = [200, 500]
        with serving(lambda handler: handler.say(answers.pop(0), (PAGE % SAID).encode())) as server:
            link = self.link(server)
            link.action_fetch()
            action = link.action_fetch()
        self.assertEqual(action['params']['type'], 'warning')
        self.assertEqual(link.status, 'error')
        self.assertIn("500", link.status_reason)
        self.assertIn(SAID, self.search_texts("When does my parcel leave?"))

    def test_retry_fetches_again(self):
        answers = [500, 200]
        with serving(lambda handler: handler.say(answers.pop(0), (PAGE % SAID).encode())) as server:
            link = self.link(server)
            link.action_fetch()
            self.assertEqual((link.status, self.chatbot.error_count), ('error', 1))
            self.assertEqual(link.action_retry()['params']['type'], 'success')
        self.assertEqual((link.status, self.chatbot.error_count), ('synced', 0))

    def test_new_address_replaces_the_text(self):
        with serving(lambda handler: handler.say(200, (PAGE % handler.path).encode(), ETag='"1"')) as server:
            link = self.link(server, '/the-old-page')
            link.action_fetch()
            link.url = f'http://127.0.0.1:{server.port}/the-new-page'
            self.assertFalse(link.checked_at)
            self.cron()
        self.assertIn('the-new-page', link.content)
        self.assertNotIn('If-None-Match', server.requests[1][1])

    def test_private_address_is_refused(self):
        self.env['ir.config_parameter'].set_param('chatbot_sync.allow_private_addresses', False)
        with serving(lambda handler: handler.say(200, b'secret')) as server:
            link = self.link(server)
            self.cron()
        self.assertFalse(server.requests)
        self.assertEqual(link.status, 'error')
        self.assertIn("not a public address", link.status_reason)

    def test_other_schemes_are_refused(self):
        with self.assertRaises(ValidationError):
            self.env['chatbot.link'].create({'url': 'file:///etc/passwd', 'chatbot_id': self.chatbot.id})

    def test_link_created_with_text_is_not_fetched(self):
        with serving(lambda handler: handler.say(200, b'other')) as server:
            link = self.link(server, content=SAID)
            self.cron()
        self.assertFalse(server.requests)
        self.assertEqual((link.status, link.content), ('synced', SAID))

    def test_no_page_is_fetched_where_fetching_is_paused(self):
        with serving(lambda handler: handler.say(200, (PAGE % SAID).encode())) as server:
            link = self.link(server)
            link.read_error = "It could not be fetched."
            self.env['res.config.settings'].create({'chatbot_fetch_paused': True}).set_values()
            self.cron()
            for fetch in (link.action_fetch, link.action_retry):
                with self.assertRaisesRegex(UserError, "Fetch No Pages"):
                    fetch()
            self.assertFalse(server.requests)
            self.env['res.config.settings'].create({'chatbot_fetch_paused': False}).set_values()
            link.action_fetch()
        self.assertEqual((link.status, link.content), ('synced', SAID))
