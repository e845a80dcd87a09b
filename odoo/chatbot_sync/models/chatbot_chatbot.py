"""Chatbots: each one is a tenant of the extension, with documents and links."""

from collections import defaultdict

from odoo import api, fields, models
from odoo.fields import Domain
from odoo.tools import SQL

from .chatbot_extension import HOSTS

# The most results that chatbot_search() returns.
MAX_RESULTS = 1000


class ChatbotChatbot(models.Model):
    _name = 'chatbot.chatbot'
    _description = "Chatbot"
    _order = 'name, id'

    name = fields.Char(required=True)
    description = fields.Text()
    active = fields.Boolean(default=True)
    color = fields.Integer()
    company_id = fields.Many2one(
        'res.company', index=True, default=lambda self: self.env.company, help="Everybody sees it where there is none.",
    )
    lang = fields.Selection(
        selection='_selection_lang', string="Language", default=lambda self: self.env.user.lang or 'en_US',
        help="What its documents and links are written in: words are searched as this language inflects them.",
    )
    document_ids = fields.One2many('chatbot.document', 'chatbot_id')
    link_ids = fields.One2many('chatbot.link', 'chatbot_id')
    knowledge_ids = fields.One2many('chatbot.knowledge', 'chatbot_id')
    document_count = fields.Integer(compute='_compute_counts')
    link_count = fields.Integer(compute='_compute_counts')
    record_count = fields.Integer(compute='_compute_counts', help="Records of other models that it knows.")
    synced_count = fields.Integer(compute='_compute_counts')
    pending_count = fields.Integer(compute='_compute_counts')
    error_count = fields.Integer(compute='_compute_counts')
    progress = fields.Float(compute='_compute_counts', help="How many of a hundred documents, links and records are synced.")
    sync_requested = fields.Boolean(string="Syncing", readonly=True, copy=False)

    @api.model
    def _selection_lang(self):
        return self.env['res.lang'].get_installed()

    @api.depends('document_ids.status', 'link_ids.status', 'knowledge_ids.connected')
    def _compute_counts(self):
        counted = defaultdict(int)
        for model in ('chatbot.document', 'chatbot.link'):
            chatbots = Domain('chatbot_id', 'in', self.ids)
            for chatbot, status, count in self.env[model]._read_group(
                chatbots, ['chatbot_id', 'vector_sync_status'], ['__count'],
            ):
                counted[chatbot.id, model] += count
                counted[chatbot.id, status] += count
            # A document or link that could not be read counts as an error, also where its former text is synced.
            for chatbot, status, count in self.env[model]._read_group(
                chatbots & Domain('read_error', '!=', False), ['chatbot_id', 'vector_sync_status'], ['__count'],
            ):
                counted[chatbot.id, status] -= count
                counted[chatbot.id, 'error'] += count
        for (chatbot, _model), of_status in self.env['chatbot.extension']._count_records(self.ids).items():
            for status, count in of_status.items():
                counted[chatbot, 'records'] += count
                counted[chatbot, status] += count
        for chatbot in self:
            chatbot.record_count = counted[chatbot.id, 'records']
            chatbot.document_count = counted[chatbot.id, 'chatbot.document']
            chatbot.link_count = counted[chatbot.id, 'chatbot.link']
            chatbot.synced_count = counted[chatbot.id, 'synced']
            chatbot.pending_count = counted[chatbot.id, 'pending']
            chatbot.error_count = counted[chatbot.id, 'error']
            total = chatbot.document_count + chatbot.link_count + chatbot.record_count
            chatbot.progress = 100 * chatbot.synced_count / total if total else 0

    def unlink(self):
        # ON DELETE CASCADE would delete the rows, but not the attachments of their files.
        whole = self.with_context(active_test=False)
        whole.document_ids.unlink()
        whole.link_ids.unlink()
        whole.knowledge_ids.unlink()
        return super().unlink()

    @api.readonly
    def search_passages(self, question, max_results=5):
        """Searches the passages of this chatbot that answer a question best, among those of records that the user may read.

        :return: a list of dicts: ``source_type`` (``document``, ``link`` or the name of a model), ``source_id``,
            ``chunk_index``, ``content``, ``similarity`` (cosine, ``None`` where only words were searched), ``score`` (what they
            are sorted by), ``metadata``
        """
        self.ensure_one()
        self.check_access('read')
        self.env.flush_all()
        models = self._readable_models()
        # Record rules may withhold passages: more are asked for than are wanted, so that others take their place.
        limit = max_results if models.keys() == HOSTS.keys() else min(4 * max_results, MAX_RESULTS)
        while True:
            found = self.env['chatbot.extension']._query(SQL(
                "SELECT * FROM chatbot_search(%s, %s, max_results => %s, source_types => %s)",
                self.id, question, limit, list(models),
            ))
            passages = self._filter_readable(found, models)
            if len(passages) >= max_results or len(found) < limit or limit >= MAX_RESULTS:
                return passages[:max_results]
            limit = min(4 * limit, MAX_RESULTS)

    def _readable_models(self):
        """Returns the model of each kind of source that this chatbot has and the user may read, with all its fields that are
        searched."""
        readable = {kind: model for kind, (model, _columns) in HOSTS.items()}
        for knowledge in self.sudo().knowledge_ids.filtered('connected'):
            model = self.env.get(knowledge.model)
            if model is None or not model.has_access('read'):
                continue
            names = {*knowledge._content_names(), *knowledge.title_field_id.mapped('name')} & model._fields.keys()
            if all(model._has_field_access(model._fields[name], 'read') for name in names):
                readable[knowledge.model] = knowledge.model
        return readable

    def _filter_readable(self, passages, models):
        """Returns the passages of records that exist and that the user may read, by access rights and record rules."""
        ids = defaultdict(set)
        for passage in passages:
            ids[passage['source_type']].add(passage['source_id'])
        readable = {
            (kind, record.id)
            for kind, source_ids in ids.items()
            for record in self.env[models[kind]].browse(source_ids).exists()._filtered_access('read')
        }
        return [passage for passage in passages if (passage['source_type'], passage['source_id']) in readable]

    def action_open_documents(self):
        return self._open('chatbot_sync.chatbot_document_action')

    def action_open_links(self):
        return self._open('chatbot_sync.chatbot_link_action')

    def action_open_knowledge(self):
        return self._open('chatbot_sync.chatbot_knowledge_action')

    def action_open_errors(self):
        """Opens the documents in error, or the links in error where there is no such document, or the knowledge from records
        where there is neither."""
        for model, action in (('chatbot.document', 'chatbot_document_action'), ('chatbot.link', 'chatbot_link_action')):
            if self.env[model].search_count([('chatbot_id', '=', self.id), ('status', '=', 'error')], limit=1):
                return self._open(f'chatbot_sync.{action}', search_default_error=1)
        return self.action_open_knowledge()

    def _open(self, action, **context):
        self.ensure_one()
        return {
            **self.env['ir.actions.act_window']._for_xml_id(action),
            'domain': [('chatbot_id', '=', self.id)],
            'context': {'default_chatbot_id': self.id, **context},
        }

    def action_ask(self):
        self.ensure_one()
        return {
            'type': 'ir.actions.act_window',
            'name': self.env._("Ask %s", self.name),
            'res_model': 'chatbot.ask',
            'view_mode': 'form',
            'target': 'new',
            'context': {'default_chatbot_id': self.id},
        }

    def action_sync_all(self):
        """Embeds in the background everything that is pending or in error, and fetches failed links again.
        ``progress`` shows how far it is."""
        self._request_sync()
        failed = self.env['chatbot.link'].search([('chatbot_id', 'in', self.ids), ('read_error', '!=', False)])
        failed.checked_at = False
        self.env['chatbot.link']._fetch_soon()
        return self.env['chatbot.source.mixin']._notify('info', self.env._("What waits or failed is being embedded."))

    def _request_sync(self):
        """Embeds what is pending or in error right after this transaction, by the scheduled action."""
        if self:
            self.check_access('write')
            self.sync_requested = True
            self.env.ref('chatbot_sync.ir_cron_sync_all').sudo()._trigger()

    @api.model
    def _cron_sync_all(self):
        """Embeds what is pending or in error for each chatbot that requested it. Each batch is committed, so an
        interruption loses nothing."""
        chatbots = self.search([('sync_requested', '=', True)])
        self.env['ir.cron']._commit_progress(remaining=len(chatbots))
        for chatbot in chatbots:
            self.env['chatbot.extension']._call(SQL("CALL chatbot_sync_all(%s)", chatbot.id))
            chatbot.sync_requested = False
            if not self.env['ir.cron']._commit_progress(1):
                break
