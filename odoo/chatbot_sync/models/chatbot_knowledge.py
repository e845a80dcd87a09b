"""Knowledge from records: a model's table, attached to a chatbot."""

from markupsafe import Markup

from odoo import api, fields, models
from odoo.exceptions import UserError, ValidationError
from odoo.tools import SQL

from ..tools.condition import Untranslatable, condition_of

TEXT_TYPES = ('char', 'text', 'html')

# Changing these changes how the table is attached.
ATTACHED = {'title_field_id', 'field_ids', 'domain'}

# How many failed records the form shows.
SHOWN_ERRORS = 20


class ChatbotKnowledge(models.Model):
    _name = 'chatbot.knowledge'
    _description = "Chatbot Knowledge from Records"
    _order = 'chatbot_id, model, id'

    chatbot_id = fields.Many2one('chatbot.chatbot', required=True, index=True, ondelete='cascade')
    company_id = fields.Many2one(related='chatbot_id.company_id', store=True, index=True, precompute=True)
    model_id = fields.Many2one(
        'ir.model', string="Records", required=True, ondelete='cascade',
        domain=[('abstract', '=', False), ('transient', '=', False)], help="What kind of records the chatbot is to know.",
    )
    model = fields.Char(related='model_id.model', string="Model Name", store=True, precompute=True)
    title_field_id = fields.Many2one(
        'ir.model.fields', string="Title", ondelete='set null',
        domain="[('model_id', '=', model_id), ('store', '=', True), ('company_dependent', '=', False), ('ttype', '=', 'char')]",
        help="Goes before the text of every passage, so that each is found by what the record is about.",
    )
    field_ids = fields.One2many('chatbot.knowledge.field', 'knowledge_id', string="Texts", copy=True)
    domain = fields.Char(
        string="Which Records", default='[]',
        help="Records that do not fulfil it are not found, nor are archived ones unless it includes them.",
    )
    connected = fields.Boolean(readonly=True, copy=False)
    state = fields.Selection(
        [('draft', "Not Connected"), ('connected', "Connected"), ('broken', "Broken")],
        compute='_compute_state', compute_sudo=True,
    )
    state_reason = fields.Text(string="Reason", compute='_compute_state', compute_sudo=True)
    record_count = fields.Integer(string="Found Records", compute='_compute_counts', help="Records that searches find.")
    synced_count = fields.Integer(compute='_compute_counts')
    pending_count = fields.Integer(compute='_compute_counts')
    error_count = fields.Integer(string="Errors", compute='_compute_counts')
    progress = fields.Float(compute='_compute_counts', help="How many of a hundred records are synced.")
    sync_requested = fields.Boolean(related='chatbot_id.sync_requested', string="Syncing")
    errors = fields.Html(string="Failed Records", compute='_compute_errors', sanitize=False)

    _once = models.Constraint('UNIQUE (chatbot_id, model_id)', "This chatbot has these records already.")

    @api.depends('model_id', 'chatbot_id')
    def _compute_display_name(self):
        for knowledge in self.sudo():  # only managers may read the names of models
            knowledge.display_name = f"{knowledge.model_id.name or ''} ({knowledge.chatbot_id.name or ''})"

    @api.depends('connected', 'model', 'chatbot_id', *ATTACHED)
    def _compute_state(self):
        attached = self.env['chatbot.extension']._attached_records()
        for knowledge in self:
            knowledge.state, knowledge.state_reason = 'draft', False
            if not knowledge.connected:
                continue
            reason = knowledge._problem()
            columns = attached.get((knowledge.model, knowledge.chatbot_id.id))
            if not reason and columns != (knowledge.title_field_id.name or None, knowledge._content_names()):
                reason = self.env._(
                    "The table is not attached as it is written here, as after a field was removed with its module."
                    " Check the texts and the filter, and connect the records again.",
                )
            knowledge.state, knowledge.state_reason = ('broken', reason) if reason else ('connected', False)

    @api.depends('connected', 'model', 'chatbot_id')
    def _compute_counts(self):
        counts = self.env['chatbot.extension']._count_records(self.chatbot_id.ids)
        for knowledge in self:
            of_status = counts.get((knowledge.chatbot_id.id, knowledge.model), {})
            knowledge.record_count = sum(of_status.values())
            knowledge.synced_count = of_status.get('synced', 0)
            knowledge.pending_count = of_status.get('pending', 0)
            knowledge.error_count = of_status.get('error', 0)
            knowledge.progress = 100 * knowledge.synced_count / knowledge.record_count if knowledge.record_count else 0

    @api.depends('connected', 'model', 'chatbot_id')
    def _compute_errors(self):
        for knowledge in self:
            knowledge.errors = False
            if not knowledge.connected or knowledge.model not in self.env:
                continue
            reasons = {row['source_id']: row['error'] for row in self.env['chatbot.extension']._query(SQL(
                "SELECT source_id, error FROM chatbot_sync.source"
                " WHERE chatbot_id = %s AND source_type = %s AND status = 'error' AND enabled ORDER BY source_id LIMIT %s",
                knowledge.chatbot_id.id, knowledge.model, SHOWN_ERRORS,
            ))}
            rows = Markup().join(
                Markup('<tr><td><a href="/odoo/%s/%s">%s</a></td><td>%s</td></tr>') % (
                    record._name, record.id, record.display_name, reasons[record.id],
                )
                for record in self.env[knowledge.model].browse(reasons).exists()._filtered_access('read')
            )
            knowledge.errors = Markup('<table class="table table-sm"><tbody>%s</tbody></table>') % rows if rows else False

    @api.onchange('model_id')
    def _onchange_model_id(self):
        """Proposes the title, and every text of the model that people write."""
        self.domain = '[]'
        self.title_field_id = False
        self.field_ids = [fields.Command.clear()]
        model = self.env.get(self.model_id.model)
        if model is None:
            return
        texts = (field for field in model._fields.values() if field.type in ('text', 'html'))
        proposed = [field for field in texts if not self._refusal(model, field)]
        title = model._fields.get(model._rec_name)
        if title and title.type == 'char' and not self._refusal(model, title):
            self.title_field_id = self.env['ir.model.fields']._get(model._name, title.name)
            proposed.insert(0, title)
        self.field_ids = [
            fields.Command.create({'field_id': self.env['ir.model.fields']._get(model._name, field.name).id, 'sequence': at})
            for at, field in enumerate(proposed)
        ]

    @api.constrains('model_id', 'title_field_id', 'field_ids', 'domain')
    def _check_attachable(self):
        for knowledge in self:
            if reason := knowledge._problem():
                raise ValidationError(reason)

    def _problem(self):
        """Returns why the records cannot be connected as the form says, or ``None``."""
        self.ensure_one()
        model = self.env.get(self.model)
        if model is None or not model._auto or model._abstract or model._transient:
            return self.env._("%s is not a model with a table of its own.", self.model_id.name)
        if not self.field_ids:
            return self.env._("No text is chosen.")
        for name in (*self._content_names(), *self.title_field_id.mapped('name')):
            if name not in model._fields:
                return self.env._("The field %s does not exist any more.", name)
            if reason := self._refusal(model, model._fields[name]):
                return reason
        try:
            condition_of(model, self.domain)
        except Untranslatable as error:
            return str(error)
        return None

    @api.model
    def _refusal(self, model, field):
        """Returns why the text of a field cannot be found, or ``None``."""
        label = field._description_string(self.env)
        if field.type not in TEXT_TYPES:
            return self.env._("%s is not a text.", label)
        if field.inherited:
            stored_with = self.env[field.related_field.model_name]._description
            return self.env._("%(field)s is stored with %(model)s: connect those records.", field=label, model=stored_with)
        if not field.store or not field.column_type:
            return self.env._("%s is not stored in the table of the record, so that no trigger sees its value.", label)
        if field.company_dependent:
            return self.env._("%s has a value for each company.", label)
        if not model._has_field_access(field, 'read'):
            return self.env._("You may not read %s.", label)
        return None

    def _content_names(self):
        return [line.field_id.name for line in self.field_ids.sorted('sequence')]

    def _texts(self):
        """Returns the names of the columns that ``chatbot_attach()`` reads, and the format of each."""
        fields_of_model = self.env[self.model]._fields
        names = self._content_names()
        return names, ['html' if fields_of_model[name].type == 'html' else 'text' for name in names]

    def write(self, vals):
        moved = {'chatbot_id', 'model_id'} & vals.keys()
        if moved and any(knowledge.connected for knowledge in self):
            raise UserError(self.env._("Disconnect the records first."))
        result = super().write(vals)
        if ATTACHED & vals.keys():
            connected = self.filtered('connected')
            for knowledge in connected:
                knowledge._attach()
            connected.chatbot_id._request_sync()
        return result

    @api.ondelete(at_uninstall=False)
    def _disconnect_deleted(self):
        self.filtered('connected')._detach()

    def _attach(self, mode=None):
        """Attaches the table; one that is attached is attached anew, and keeps what was embedded."""
        extension = self.env['chatbot.extension']
        self.env[self.model].check_access('read')
        condition = condition_of(self.env[self.model], self.domain)
        contents, formats = self._texts()
        if (self.model, self.chatbot_id.id) in extension._attached_records():
            self._detach(delete_embeddings=False)
        extension._query(SQL(
            """
            SELECT chatbot_attach(%s::regclass, %s, chatbot_id => %s, title_column => %s, content_columns => %s::name[],
                content_formats => %s::text[], condition => %s, mode => %s)
            """,
            extension._regclass(self.model), self.model, self.chatbot_id.id, self.title_field_id.name or None, contents,
            formats, condition, mode or extension._mode() or 'sync',
        ))

    def _detach(self, delete_embeddings=True):
        """Detaches tables that are attached, and forgets what was embedded unless it is to be kept."""
        extension = self.env['chatbot.extension']
        attached = extension._attached_records()
        for knowledge in self:
            if (knowledge.model, knowledge.chatbot_id.id) in attached:
                extension._query(SQL(
                    "SELECT chatbot_detach(%s::regclass, delete_embeddings => %s, chatbot_id => %s)",
                    extension._regclass(knowledge.model), delete_embeddings, knowledge.chatbot_id.id,
                ))

    def action_connect(self):
        """Attaches the tables, and embeds the records that there are in the background."""
        self.check_access('write')
        for knowledge in self:
            if reason := knowledge._problem():
                raise UserError(reason)
            self.env['chatbot.extension']._add_source_type(knowledge.model)
            knowledge._attach()
        self.connected = True
        self.chatbot_id._request_sync()
        return True

    def action_disconnect(self):
        """Detaches the tables, and forgets what was embedded of their records."""
        self.check_access('write')
        self._detach()
        self.connected = False
        return True

    def action_retry(self):
        """Tries the records that failed again, in the background."""
        self.check_access('write')
        for knowledge in self:
            self.env['chatbot.extension']._query(SQL(
                "SELECT chatbot_retry(%s, %s)", knowledge.chatbot_id.id, knowledge.model,
            ))
        self.chatbot_id._request_sync()
        return True

    def action_preview(self):
        """Opens what connecting the records would embed."""
        self.ensure_one()
        self.check_access('write')
        if reason := self._problem():
            raise UserError(reason)
        preview = self.env['chatbot.knowledge.preview']._create_for(self)
        return {
            'type': 'ir.actions.act_window',
            'name': self.env._("Preview"),
            'res_model': 'chatbot.knowledge.preview',
            'res_id': preview.id,
            'view_mode': 'form',
            'target': 'new',
        }

    def action_open_records(self):
        self.ensure_one()
        return {
            'type': 'ir.actions.act_window',
            'name': self.sudo().model_id.name,
            'res_model': self.model,
            'view_mode': 'list,form',
            'domain': self.domain,
        }
