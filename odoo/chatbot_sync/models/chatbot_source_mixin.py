"""The fields and methods that documents and links share: a text, and its state in the extension."""

from odoo import api, fields, models
from odoo.fields import Domain
from odoo.tools import SQL

# Columns that the extension's triggers write. This module writes to them only to request a retry.
TOLD = ('vector_sync_status', 'processed', 'sync_error')

# Defaults of the settings: the largest files and pages in MB, the longest fetch of a page in seconds, and after how
# many days links are fetched again (0: never).
LIMITS = {'max_file_mb': 25, 'max_page_mb': 5, 'fetch_timeout': 15, 'rescrape_days': 0}


class ChatbotSourceMixin(models.AbstractModel):
    _name = 'chatbot.source.mixin'
    _description = "Chatbot Source"
    _source_type = None  # the source type in the extension

    chatbot_id = fields.Many2one('chatbot.chatbot', required=True, index=True, ondelete='cascade')
    company_id = fields.Many2one(related='chatbot_id.company_id', store=True, index=True, precompute=True)
    lang = fields.Selection(related='chatbot_id.lang', store=True, precompute=True)
    active = fields.Boolean(default=True)
    content = fields.Text(prefetch=False, help="The text that is searched.")
    searchable = fields.Boolean(
        compute='_compute_searchable', store=True, precompute=True,
        help="Whether searches find it: it is not archived, and has a text.",
    )
    read_error = fields.Text(
        readonly=True, copy=False, help="Why its text could not be read from its file or its page.",
    )
    vector_sync_status = fields.Selection(
        [('pending', "Pending"), ('synced', "Synced"), ('error', "Error")],
        string="Embedding", default='pending', readonly=True, copy=False, index=True,
        help="Whether the passages of its text are as the text is, as the extension says.",
    )
    processed = fields.Boolean(readonly=True, copy=False, help="Whether its passages can be found.")
    sync_error = fields.Text(readonly=True, copy=False, help="Why its passages could not be made.")
    status = fields.Selection(
        [('pending', "Pending"), ('synced', "Synced"), ('error', "Error")],
        compute='_compute_status', search='_search_status',
    )
    status_reason = fields.Text(string="Reason", compute='_compute_status')
    chunk_count = fields.Integer(
        string="Passages", compute='_compute_chunk_count', help="Pieces of its text that have a vector.",
    )
    truncated = fields.Boolean(
        compute='_compute_chunk_count', help="Its text has more passages than chatbot_sync.max_chunks: its end is not searched.",
    )

    @api.depends('active', 'content')
    def _compute_searchable(self):
        for record in self:
            record.searchable = record.active and bool(record.content)

    @api.depends('vector_sync_status', 'sync_error', 'read_error')
    def _compute_status(self):
        for record in self:
            record.status = 'error' if record.read_error else record.vector_sync_status
            record.status_reason = record.read_error or record.sync_error

    @api.model
    def _search_status(self, operator, value):
        if operator != 'in':
            return NotImplemented
        wanted = Domain('vector_sync_status', 'in', value) & Domain('read_error', '=', False)
        if 'error' in value:
            wanted |= Domain('read_error', '!=', False)
        return wanted

    @api.depends('content', 'vector_sync_status')
    def _compute_chunk_count(self):
        self.flush_recordset(['content', 'searchable'])
        known = {}
        if self.ids:
            known = {row['source_id']: row for row in self.env['chatbot.extension']._query(SQL(
                "SELECT source_id, chunk_count, truncated FROM chatbot_sync.source"
                " WHERE chatbot_id = ANY (%s) AND source_type = %s AND source_id = ANY (%s)",
                self.chatbot_id.ids, self._source_type, self.ids,
            ))}
        for record in self:
            row = known.get(record._origin.id, {})
            record.chunk_count = row.get('chunk_count') or 0
            record.truncated = row.get('truncated')

    @api.model_create_multi
    def create(self, vals_list):
        with self.env['chatbot.extension']._user_errors():
            records = super().create(vals_list)
            records._reload_sync_fields()
        return records

    def write(self, vals):
        with self.env['chatbot.extension']._user_errors():
            result = super().write(vals)
            self._reload_sync_fields()
        return result

    def _reload_sync_fields(self):
        """Flushes the records, and drops cached values of fields that the triggers have just written."""
        self.flush_recordset()
        self.invalidate_recordset([*TOLD, 'status', 'status_reason', 'chunk_count', 'truncated'], flush=False)

    def _read_again(self):
        """Reads the text of failed records again from its origin. Overridden by documents and links."""

    def action_retry(self):
        """Retries the records that failed. Returns a notification with the result."""
        self.check_access('write')
        # Workers of Postgres write to these fields too, so cached values may be old.
        self.invalidate_recordset()
        failed = self.filtered(lambda record: record.status == 'error')
        failed.filtered('read_error')._read_again()
        failed.filtered(lambda record: record.vector_sync_status == 'error').write({'vector_sync_status': 'pending'})
        failing = failed.filtered(lambda record: record.status == 'error')
        if failing:
            kind, message = 'warning', self.env._(
                "%(count)s of %(total)s failed again: %(reason)s",
                count=len(failing), total=len(failed), reason=failing[0].status_reason,
            )
        elif failed:
            kind, message = 'success', self.env._("%s tried again.", len(failed))
        else:
            kind, message = 'info', self.env._("None of them had failed.")
        return self._notify(kind, message)

    @api.model
    def _limit(self, name):
        """Returns a limit from the settings, or its default."""
        return int(self.env['ir.config_parameter'].sudo().get_param(f'chatbot_sync.{name}', LIMITS[name]))

    @api.model
    def _notify(self, kind, message):
        return {
            'type': 'ir.actions.client',
            'tag': 'display_notification',
            'params': {'type': kind, 'message': message, 'next': {'type': 'ir.actions.client', 'tag': 'soft_reload'}},
        }
