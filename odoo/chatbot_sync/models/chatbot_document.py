"""Documents: texts that are written in Odoo, or read from a file."""

import base64
import binascii

from odoo import api, fields, models

from ..tools.extract import Unreadable, extract, sniff


class ChatbotDocument(models.Model):
    _name = 'chatbot.document'
    _inherit = 'chatbot.source.mixin'
    _description = "Chatbot Document"
    _order = 'name, id'
    _source_type = 'document'

    name = fields.Char(required=True)
    file = fields.Binary(attachment=True, copy=False)
    file_name = fields.Char(copy=False)
    file_type = fields.Char(readonly=True, copy=False, help="What the file is, as its own bytes say.")
    file_size = fields.Integer(string="File Size (bytes)", readonly=True, copy=False)
    uploaded_at = fields.Datetime(readonly=True, copy=False)

    @api.onchange('file_name')
    def _onchange_file_name(self):
        self.name = self.name or self.file_name

    @api.model_create_multi
    def create(self, vals_list):
        return super().create([{'name': vals.get('file_name'), **self._add_file_text(vals)} for vals in vals_list])

    def write(self, vals):
        return super().write(self._add_file_text(vals))

    @api.model
    def _add_file_text(self, vals):
        """Adds the text of a file to values that contain the file, or the reason why it cannot be read."""
        if 'file' not in vals:
            # A text that is written by hand replaces a file that could not be read.
            return {'read_error': False, **vals} if 'content' in vals else vals
        if not vals['file']:
            return {**vals, 'file_name': False, 'file_type': False, 'file_size': False, 'uploaded_at': False, 'read_error': False}
        try:
            data = base64.b64decode(vals['file'])
        except binascii.Error:
            data = b''
        file_name = vals.get('file_name') or vals.get('name')
        read = {'file_size': len(data), 'file_type': False, 'uploaded_at': fields.Datetime.now()}
        limit = self._limit('max_file_mb')
        if len(data) > limit * 1024**2:
            read |= {'file': False, 'content': False, 'read_error': self.env._(
                "The file is not kept: it has %(size)s MB, and %(limit)s MB is the limit.",
                size=round(len(data) / 1024**2, 1), limit=limit,
            )}
        else:
            read |= self._read(data, file_name)
        return {**vals, **read}

    @api.model
    def _read(self, data, file_name):
        """Reads a file. Returns its type, its text and the error as field values."""
        kind = False
        try:
            kind = sniff(data, file_name)
            return {'file_type': kind, 'content': extract(data, file_name, kind), 'read_error': False}
        except Unreadable as error:
            return {'file_type': kind, 'content': False, 'read_error': self.env._(error.message)}

    def _read_again(self):
        for document in self.filtered('file'):
            # The file name is needed again: it distinguishes CSV and Markdown from plain text.
            document.write({'file': document.with_context(bin_size=False).file, 'file_name': document.file_name})

    def action_read_again(self):
        """Reads the files again with this version of the module. A text that was edited since is overwritten."""
        self.check_access('write')
        documents = self.filtered('file')
        documents._read_again()
        if failed := documents.filtered('read_error'):
            return self._notify('warning', "\n".join(f"{document.display_name}: {document.read_error}" for document in failed[:5]))
        return self._notify('success', self.env._("%s read.", len(documents)))
