"""Links: web pages whose text is fetched, and fetched again after some days."""

import logging
from datetime import timedelta
from urllib.parse import urlsplit

from odoo import api, fields, models
from odoo.exceptions import UserError, ValidationError
from odoo.fields import Domain
from odoo.service.model import PG_CONCURRENCY_EXCEPTIONS_TO_RETRY
from odoo.tools import str2bool

from ..tools.extract import Unreadable, extract, page_text
from ..tools.fetch import Unfetchable, fetch

_logger = logging.getLogger(__name__)


class ChatbotLink(models.Model):
    _name = 'chatbot.link'
    _inherit = 'chatbot.source.mixin'
    _description = "Chatbot Link"
    _order = 'title, url, id'
    _rec_names_search = ['title', 'url']
    _source_type = 'link'

    url = fields.Char(string="Address", required=True)
    title = fields.Char(help="The page's own, unless you give one.")
    scraped_at = fields.Datetime(string="Fetched On", readonly=True, copy=False, help="Since when its text is known to be this.")
    checked_at = fields.Datetime(readonly=True, copy=False, index=True, help="When it was last tried to fetch it.")
    etag = fields.Char(readonly=True, copy=False)
    last_modified = fields.Char(readonly=True, copy=False)

    @api.depends('title', 'url')
    def _compute_display_name(self):
        for link in self:
            link.display_name = link.title or link.url

    @api.constrains('url')
    def _check_url(self):
        for link in self:
            if urlsplit(link.url).scheme.lower() not in ('http', 'https'):
                raise ValidationError(self.env._("Only addresses that begin with http:// or https:// are fetched."))

    @api.model_create_multi
    def create(self, vals_list):
        now = fields.Datetime.now()
        # A text that is passed by the caller counts as fetched now.
        links = super().create([
            {'scraped_at': now, 'checked_at': now, **vals} if vals.get('content') else vals for vals in vals_list
        ])
        links._fetch_soon()
        return links

    def write(self, vals):
        if 'url' in vals:
            vals = {'etag': False, 'last_modified': False, 'checked_at': False, **vals}
        result = super().write(vals)
        if 'url' in vals:
            self._fetch_soon()
        return result

    @api.model
    def _fetch_soon(self):
        """Fetches links that were never fetched, by the scheduled action right after this transaction."""
        if not self._is_paused() and self.search_count([('checked_at', '=', False)], limit=1):
            self.env.ref('chatbot_sync.ir_cron_fetch').sudo()._trigger()

    @api.model
    def _is_paused(self):
        """Whether fetching pages is switched off: in a neutralized copy of a database, or by the settings."""
        return str2bool(self.env['ir.config_parameter'].sudo().get_param('chatbot_sync.fetch_paused'), False)

    @api.model
    def _check_paused(self):
        if self._is_paused():
            raise UserError(self.env._("No pages are fetched in this database: see \"Fetch No Pages\" in the settings of chatbots."))

    def action_fetch(self):
        """Fetches the pages now. Returns a notification with the result."""
        self.check_access('write')
        self._check_paused()
        for link in self:
            link._apply_fetched(link._fetch())
        failed = self.filtered('read_error')
        if failed:
            return self._notify('warning', "\n".join(f"{link.display_name}: {link.read_error}" for link in failed[:5]))
        return self._notify('success', self.env._("%s fetched.", len(self)))

    def _read_again(self):
        if self:
            self._check_paused()
        for link in self:
            link._apply_fetched(link._fetch())

    def _fetch(self):
        """Fetches the page. Returns the values to write, without writing them."""
        self.ensure_one()
        parameters = self.env['ir.config_parameter'].sudo()
        now = fields.Datetime.now()
        known = bool(self.content)
        try:
            page = fetch(
                self.url,
                timeout=self._limit('fetch_timeout'),
                max_bytes=self._limit('max_page_mb') * 1024**2,
                allow_private=str2bool(parameters.get_param('chatbot_sync.allow_private_addresses'), False),
                etag=known and self.etag,
                last_modified=known and self.last_modified,
            )
            values = {'checked_at': now, 'scraped_at': now, 'read_error': False}
            if page.content is not None:
                values |= {'etag': page.etag, 'last_modified': page.last_modified, **self._read(page)}
            return values
        except (Unfetchable, Unreadable) as error:
            # The text of the last successful fetch is kept, so that searches still find it.
            return {'checked_at': now, 'read_error': self.env._(error.message)}

    def _read(self, page):
        if page.mimetype in ('text/html', 'application/xhtml+xml'):
            title, text = page_text(page.content, page.url, page.charset)
        else:
            title, text = None, extract(page.content, urlsplit(page.url).path.rpartition('/')[2])
        return {'content': text, 'title': self.title or title}

    def _apply_fetched(self, values):
        # An unchanged text is not written, so that its source does not have to be compared.
        if 'content' in values and values['content'] == self.content:
            values = {name: value for name, value in values.items() if name != 'content'}
        self.write(values)

    @api.model
    def _cron_fetch(self):
        """Fetches links that were never fetched, and those whose last attempt is longer ago than the settings say."""
        if self._is_paused():
            return
        due = Domain('checked_at', '=', False)
        if days := self._limit('rescrape_days'):
            due |= Domain('checked_at', '<', fields.Datetime.now() - timedelta(days=days))
        links = self.search(due & Domain('chatbot_id.active', '=', True), order='checked_at NULLS FIRST, id')
        progress = self.env['ir.cron']._commit_progress
        progress(remaining=len(links))
        for link in links:
            values = link._fetch()
            # Fetching takes time: the commit ends the snapshot, so that changes by other users are seen and do not
            # conflict.
            progress()
            try:
                if link.exists():
                    link._apply_fetched(values)
                left = progress(1)
            except PG_CONCURRENCY_EXCEPTIONS_TO_RETRY:
                _logger.info("%s is written by somebody else: it is fetched again later", link)
                self.env.cr.rollback()
                continue
            if not left:
                break
