"""Dialog that shows what connecting records to a chatbot would embed, without embedding anything."""

import ast
import contextlib

from markupsafe import Markup

from odoo import api, fields, models
from odoo.tools import SQL

from ..tools.condition import condition_sql
from ..tools.html import TooDeep, html_text

# Of more records than these only as many are counted, and all are estimated from them.
SAMPLE = 10_000

# How many passages are shown.
SHOWN = 3

# A chatbot that no record can be, since ids of records have four bytes.
NO_CHATBOT = 2**62


class ChatbotKnowledgePreview(models.TransientModel):
    _name = 'chatbot.knowledge.preview'
    _description = "Preview of Knowledge from Records"

    knowledge_id = fields.Many2one('chatbot.knowledge', required=True, ondelete='cascade')
    record_count = fields.Integer(string="Records", readonly=True)
    chunk_count = fields.Integer(string="Passages", readonly=True)
    token_count = fields.Integer(
        string="Tokens", readonly=True,
        help="About as many are embedded. Providers charge for them, the built-in model does not.",
    )
    estimated = fields.Boolean(readonly=True, help="Passages and tokens are estimated from a part of the records.")
    passages = fields.Html(string="Beginnings", sanitize=False, readonly=True)

    @api.model
    def _create_for(self, knowledge):
        return self.create({
            'knowledge_id': knowledge.id, 'passages': self._sample_passages(knowledge), **self._estimate(knowledge),
        })

    @api.model
    def _estimate(self, knowledge):
        """Returns how many records would be found, with how many passages and tokens.

        ``chatbot_estimate()`` counts the rows of an attached table. It is given a copy of the rows, which is rolled back, so
        that no writer waits for a lock on the real table.
        """
        extension = self.env['chatbot.extension']
        model = self.env[knowledge.model]
        model.check_access('read')
        self.env.flush_all()
        rows = SQL("FROM %s WHERE %s", SQL.identifier(model._table), condition_sql(model, knowledge.domain) or SQL("TRUE"))
        [total] = extension._query(SQL("SELECT count(*) %s", rows))
        total = total['count']
        contents, formats = knowledge._texts()
        title = knowledge.title_field_id.name or None
        copy = SQL.identifier(f'chatbot_preview_{self.env.cr.connection.info.backend_pid}')
        columns = SQL(", ").join(map(SQL.identifier, dict.fromkeys(['id', *contents, *(title and [title] or [])])))
        with contextlib.closing(self.env.cr.savepoint()):
            extension._query(SQL(
                "CREATE TABLE %s AS SELECT %s %s %s LIMIT %s",
                copy, columns, rows, SQL("ORDER BY random()") if total > SAMPLE else SQL(), SAMPLE,
            ))
            extension._query(SQL("ALTER TABLE %s ADD PRIMARY KEY (id)", copy))
            extension._query(SQL(
                "SELECT chatbot_attach(%s::regclass, 'document', chatbot_id => %s, title_column => %s,"
                " content_columns => %s::name[], content_formats => %s::text[])",
                copy.code, NO_CHATBOT, title, contents, formats,
            ))
            [counted] = extension._query(SQL("SELECT sources, chunks, tokens FROM chatbot_estimate(%s::regclass)", copy.code))
        scale = total / counted['sources'] if counted['sources'] else 0
        return {
            'record_count': total,
            'chunk_count': round(counted['chunks'] * scale),
            'token_count': round(counted['tokens'] * scale),
            'estimated': total > SAMPLE,
        }

    @api.model
    def _sample_passages(self, knowledge):
        """Returns the first passages of some records that the user may read, as HTML."""
        records = self.env[knowledge.model].search(ast.literal_eval(knowledge.domain or '[]'), limit=SHOWN)
        return Markup().join(
            Markup('<h5>%s</h5><p style="white-space: pre-line">%s</p>') % (record.display_name, passage)
            for record in records
            for passage in [self._first_passage(record, knowledge)]
            if passage
        )

    @api.model
    def _first_passage(self, record, knowledge):
        texts = []
        for name, text_format in zip(*knowledge._texts()):
            with contextlib.suppress(TooDeep):
                text = record[name] or ''
                texts.append(html_text(text) if text_format == 'html' else text)
        passages = self.env['chatbot.extension']._query(SQL(
            "SELECT content FROM chatbot_chunk(%s) LIMIT 1", "\n\n".join(filter(None, map(str.strip, texts))),
        ))
        return passages[0]['content'] if passages else None
