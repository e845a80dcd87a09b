from markupsafe import Markup

from odoo import api, fields, models
from odoo.exceptions import UserError

from .chatbot_source_mixin import LIMITS


class ResConfigSettings(models.TransientModel):
    _inherit = 'res.config.settings'

    chatbot_mode = fields.Selection(
        [('sync', "At once"), ('async', "Later, in the background")],
        string="Embed Texts",
        help="At once: a record is saved with its passages, and saving waits for the provider."
             " Later: saving waits for nobody, and workers of Postgres or a scheduled action follow.",
    )
    chatbot_doctor = fields.Html(string="Health", compute='_compute_chatbot_doctor', sanitize=False)
    chatbot_max_file_mb = fields.Integer(
        string="Largest File (MB)", config_parameter='chatbot_sync.max_file_mb', default=LIMITS['max_file_mb'],
    )
    chatbot_max_page_mb = fields.Integer(
        string="Largest Page (MB)", config_parameter='chatbot_sync.max_page_mb', default=LIMITS['max_page_mb'],
    )
    chatbot_fetch_timeout = fields.Integer(
        string="Slowest Page (seconds)", config_parameter='chatbot_sync.fetch_timeout', default=LIMITS['fetch_timeout'],
    )
    chatbot_rescrape_days = fields.Integer(
        string="Fetch Links Again After (days)", config_parameter='chatbot_sync.rescrape_days', help="Never, where it is 0.",
    )
    chatbot_allow_private_addresses = fields.Boolean(
        string="Fetch Private Addresses", config_parameter='chatbot_sync.allow_private_addresses',
    )
    chatbot_fetch_paused = fields.Boolean(
        string="Fetch No Pages", config_parameter='chatbot_sync.fetch_paused',
        help="Links keep the text that they have. So it is in a neutralized copy of a database.",
    )

    @api.depends('chatbot_mode')
    def _compute_chatbot_doctor(self):
        try:
            checks = self.env['chatbot.extension']._doctor()
        except UserError as error:
            checks = [{'check_name': "chatbot_sync", 'status': 'error', 'detail': str(error), 'hint': None}]
        colors = {'ok': 'success', 'warning': 'warning', 'error': 'danger'}
        rows = Markup().join(
            Markup('<tr><td><span class="badge text-bg-%s">%s</span></td><td>%s</td><td>%s%s</td></tr>') % (
                colors.get(check['status'], 'secondary'), check['status'], check['check_name'], check['detail'] or '',
                Markup('<br/><code>%s</code>') % check['hint'] if check['hint'] else '',
            )
            for check in checks
        )
        self.chatbot_doctor = Markup('<table class="table table-sm o_chatbot_doctor"><tbody>%s</tbody></table>') % rows

    @api.model
    def get_values(self):
        return {**super().get_values(), 'chatbot_mode': self.env['chatbot.extension']._mode()}

    def set_values(self):
        super().set_values()
        mode = self.chatbot_mode
        if mode and mode != self.env['chatbot.extension']._mode():
            self.env['chatbot.extension']._attach(mode)
