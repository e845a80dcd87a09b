"""All that is said to the Postgres extension."""

import contextlib
import logging

import psycopg2

from odoo import api, models
from odoo.exceptions import UserError
from odoo.service.model import PG_CONCURRENCY_EXCEPTIONS_TO_RETRY
from odoo.sql_db import db_connect
from odoo.tools import SQL, file_open

_logger = logging.getLogger(__name__)

# Errors that are Odoo's to handle: what it tries again, sends to the primary server, or words by itself.
NOT_OURS = (
    *PG_CONCURRENCY_EXCEPTIONS_TO_RETRY,
    psycopg2.errors.ReadOnlySqlTransaction,
    psycopg2.errors.QueryCanceled,
    psycopg2.InterfaceError,
    psycopg2.IntegrityError,
)

# The model of each kind of source, and the columns that go into the metadata of its passages.
HOSTS = {
    'document': ('chatbot.document', ['name', 'lang']),
    'link': ('chatbot.link', ['title', 'url', 'lang']),
}


class ChatbotExtension(models.AbstractModel):
    _name = 'chatbot.extension'
    _description = "Chatbot Extension"

    def _register_hook(self):
        super()._register_hook()
        self._stay_neutralized()

    @api.model
    def _stay_neutralized(self):
        """Neutralizes a copy of a neutralized database. Odoo's own switches are rows, and are copied; settings of databases are not.

        A database whose settings say ``chatbot_sync.enabled``, on or off, is left as it is.
        """
        if not self.env['ir.config_parameter'].sudo().get_param('database.is_neutralized'):
            return
        try:
            with self.env.cr.savepoint():
                self.env.cr.execute("""
                    SELECT 1 FROM pg_db_role_setting s, unnest(s.setconfig) setting
                     WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.setrole = 0
                       AND setting LIKE 'chatbot_sync.enabled=%'
                """)
                if not self.env.cr.rowcount:
                    with file_open('chatbot_sync/data/neutralize.sql') as file:
                        self.env.cr.execute(file.read())
        except psycopg2.Error as error:
            _logger.warning("A copy of a neutralized database is not neutralized: %s", error)

    @contextlib.contextmanager
    def _readable(self):
        """What Postgres refuses becomes a message for the user; what is Odoo's to try again stays as it is."""
        try:
            yield
        except NOT_OURS:
            raise
        except psycopg2.Error as error:
            if not error.pgcode or error.pgcode.startswith(('08', '57')):  # the connection, the server
                raise
            lines = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
            raise UserError("\n".join(line for line in lines if line)) from error

    @api.model
    def _query(self, query):
        """The rows of a query that calls the extension. Nothing of it is logged: texts are documents' and users'."""
        with self._readable(), self.env.cr.savepoint():
            self.env.cr.execute(query, log_exceptions=False)
            return self.env.cr.dictfetchall()

    @api.model
    def _call(self, procedure):
        """Calls a procedure that commits by itself, step by step, so that it needs a connection of its own.

        It sees what is committed only, and what it has done stays done.
        """
        cursor = db_connect(self.env.cr.dbname).cursor()
        with self._readable(), contextlib.closing(cursor):
            cursor._cnx.autocommit = True
            try:
                cursor.execute(procedure)
            finally:
                if not cursor._cnx.closed:
                    cursor._cnx.autocommit = False

    @api.model
    def _is_installed(self):
        return bool(self._query(SQL("SELECT 1 FROM pg_extension WHERE extname = 'chatbot_sync'")))

    @api.model
    def _attached(self):
        """How each of our tables is attached, by its name."""
        if not self._is_installed():
            return {}
        tables = [self.env[model]._table for model, _columns in HOSTS.values()]
        rows = self._query(SQL(
            "SELECT c.relname, h.mode FROM chatbot_sync.host_table h JOIN pg_class c ON c.oid = h.relation"
            " WHERE h.relation = ANY (%s::text[]::regclass[])", tables,
        ))
        return {row['relname']: row['mode'] for row in rows}

    @api.model
    def _mode(self):
        """Whether passages are made at once or later; ``False`` where the tables are not attached."""
        return next(iter(self._attached().values()), False)

    @api.model
    def _attach(self, mode):
        """Attaches our tables, or attaches them anew where they are attached in another mode."""
        attached = self._attached()
        for kind, (model, metadata) in HOSTS.items():
            table = self.env[model]._table
            if attached.get(table) == mode:
                continue
            if table in attached:
                self._query(SQL("SELECT chatbot_detach(%s::regclass)", table))
            self._query(SQL(
                """
                SELECT chatbot_attach(%s::regclass, %s, metadata_columns => %s::name[], enabled_column => 'searchable',
                    status_column => 'vector_sync_status', processed_column => 'processed', error_column => 'sync_error',
                    mode => %s)
                """, table, kind, metadata, mode,
            ))
        chatbots = self.env['chatbot.chatbot']._table
        if not self._query(SQL(
            "SELECT 1 FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = 'chatbot_sync_chatbots_delete'", chatbots,
        )):
            self._query(SQL("SELECT chatbot_attach_chatbots(%s::regclass)", chatbots))

    @api.model
    def _detach(self):
        """Detaches our tables and forgets what was made of them."""
        for table in self._attached():
            self._query(SQL("SELECT chatbot_detach(%s::regclass, delete_embeddings => TRUE)", table))
        chatbots = self.env['chatbot.chatbot']._table
        self._query(SQL("SELECT chatbot_cleanup(id) FROM %s", SQL.identifier(chatbots)))
        self._query(SQL("SELECT chatbot_detach(%s::regclass)", chatbots))

    @api.model
    def _doctor(self):
        """What ``chatbot_doctor()`` says. It asks the provider for a vector, and is not to keep anybody waiting."""
        self._query(SQL("SELECT set_config('chatbot_sync.sync_timeout', '5000', TRUE)"))
        return self._query(SQL("SELECT * FROM chatbot_doctor()"))

    @api.model
    def _cron_process_queue(self):
        """Embeds what is due. Where Postgres has workers there is nothing left of it, or they share the work."""
        if self._query(SQL("SELECT 1 FROM chatbot_sync.job WHERE due_at <= now() LIMIT 1")):
            self._call(SQL("CALL chatbot_process_queue()"))
