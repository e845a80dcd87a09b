from odoo import SUPERUSER_ID, api

from odoo.addons.chatbot_sync.hooks import check_version


def migrate(cr, version):
    """Refuses the update while the extension in the database is older than the module needs."""
    check_version(api.Environment(cr, SUPERUSER_ID, {}))
