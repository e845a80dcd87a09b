"""Dialog to ask a chatbot: a question, the passages that answer it, and the earlier questions."""

import json

from babel import Locale, UnknownLocaleError
from markupsafe import Markup, escape

from odoo import api, fields, models
from odoo.exceptions import UserError
from odoo.tools import SQL

from ..models.chatbot_extension import HOSTS

# Mark the words that were found until the rest of the text is escaped. Both are private-use characters, which no text
# should contain.
FOUND, END = '\ue000', '\ue001'


class ChatbotAsk(models.TransientModel):
    _name = 'chatbot.ask'
    _description = "Ask a Chatbot"

    chatbot_id = fields.Many2one('chatbot.chatbot', required=True, ondelete='cascade')
    question = fields.Char()
    asked = fields.Char(readonly=True)
    passage_ids = fields.One2many('chatbot.ask.passage', 'ask_id', readonly=True)
    session_id = fields.Char(string="Conversation", readonly=True)
    history = fields.Html(compute='_compute_history', sanitize=False)

    @api.depends('session_id', 'asked')
    def _compute_history(self):
        for ask in self:
            questions = []
            if ask.session_id:
                questions = [row['content'] for row in self.env['chatbot.extension']._query(SQL(
                    "SELECT content FROM chatbot_session_messages(%s) WHERE role = 'user'", ask.session_id,
                ))]
            items = Markup().join(Markup('<li>%s</li>') % question for question in questions[:-1])
            ask.history = items and Markup('<ol>%s</ol>') % items

    def action_ask(self):
        """Searches the passages that answer the question, and stores both in the conversation."""
        self.ensure_one()
        question = (self.question or '').strip()
        if not question:
            raise UserError(self.env._("Ask something."))
        passages = self.chatbot_id.search_passages(question)
        self._store_messages(question, passages)
        marked = self._highlight(question, [passage['content'] for passage in passages])
        self.write({
            'asked': question,
            'question': False,
            'passage_ids': [fields.Command.clear()] + [
                fields.Command.create({
                    'source': f"{self._model_of(passage['source_type'])},{passage['source_id']}",
                    'url': passage['metadata'].get('url'),
                    'content': text,
                    'similarity': passage['similarity'],
                    'score': passage['score'],
                })
                for passage, text in zip(passages, marked)
            ],
        })
        return {**self.chatbot_id.action_ask(), 'res_id': self.id}

    @api.model
    def _model_of(self, source_type):
        """Returns the name of the model whose records are of this kind."""
        return HOSTS[source_type][0] if source_type in HOSTS else source_type

    def action_close(self):
        """Ends the conversation."""
        for session in filter(None, self.mapped('session_id')):
            self.env['chatbot.extension']._query(SQL("SELECT chatbot_session_close(%s)", session))
        return {'type': 'ir.actions.act_window_close'}

    def _store_messages(self, question, passages):
        query = self.env['chatbot.extension']._query
        if not self.session_id:
            [opened] = query(SQL(
                "SELECT chatbot_session_open(%s, %s)::text AS id", self.chatbot_id.id, json.dumps({'user_id': self.env.uid}),
            ))
            self.session_id = opened['id']
        query(SQL("SELECT chatbot_session_add_message(%s, 'user', %s)", self.session_id, question))
        found = [{key: passage[key] for key in ('source_type', 'source_id', 'chunk_index', 'score')} for passage in passages]
        query(SQL(
            "SELECT chatbot_session_add_message(%s, 'assistant', %s, %s)",
            self.session_id, "\n\n".join(passage['content'] for passage in passages), json.dumps({'passages': found}),
        ))

    def _highlight(self, question, texts):
        """Returns the texts as HTML, with the words of the question marked in all inflected forms of the chatbot's
        language."""
        try:
            language = Locale.parse(self.chatbot_id.lang).get_language_name('en').lower()
        except (UnknownLocaleError, TypeError, ValueError):
            language = 'simple'
        rows = self.env['chatbot.extension']._query(SQL(
            """
            SELECT ts_headline(c.cfg, t.content, replace(plainto_tsquery(c.cfg, %(question)s)::text, '&', '|')::tsquery,
                       'HighlightAll=TRUE, StartSel=%(found)s, StopSel=%(end)s') AS marked
              FROM (SELECT COALESCE((SELECT oid::regconfig FROM pg_ts_config WHERE cfgname = %(language)s LIMIT 1),
                                    'simple'::regconfig) AS cfg) c,
                   unnest(%(texts)s::text[]) WITH ORDINALITY AS t (content, place)
             ORDER BY t.place
            """,
            question=question, language=language, texts=texts, found=SQL(FOUND), end=SQL(END),
        ))
        return [
            escape(row['marked']).replace(FOUND, Markup('<mark>')).replace(END, Markup('</mark>')) for row in rows
        ]


class ChatbotAskPassage(models.TransientModel):
    _name = 'chatbot.ask.passage'
    _description = "Passage that Answers a Question"
    _order = 'score DESC, id'

    ask_id = fields.Many2one('chatbot.ask', required=True, ondelete='cascade', index=True)
    source = fields.Reference(selection='_selection_source')
    source_url = fields.Char(compute='_compute_source_url')
    url = fields.Char(string="Address")
    content = fields.Html(sanitize=False)
    similarity = fields.Float(digits=(4, 2))
    score = fields.Float(digits=(4, 2))

    @api.model
    def _selection_source(self):
        """Returns the models whose records may be passages: those of documents and links, and those that are connected."""
        models = [model for model, _columns in HOSTS.values()]
        models += self.env['chatbot.knowledge'].sudo().search([]).mapped('model')
        return [(model, self.env[model]._description) for model in dict.fromkeys(models) if model in self.env]

    @api.depends('source')
    def _compute_source_url(self):
        for passage in self:
            passage.source_url = passage.source and f'/odoo/{passage.source._name}/{passage.source.id}'
