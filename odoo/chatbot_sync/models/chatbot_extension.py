"""All calls of the Postgres extension chatbot_sync."""

import contextlib
import logging

import psycopg2

from odoo import api, models
from odoo.exceptions import UserError
from odoo.service.model import PG_CONCURRENCY_EXCEPTIONS_TO_RETRY
from odoo.sql_db import db_connect
from odoo.tools import SQL, file_open

_logger = logging.getLogger(__name__)

# Errors that Odoo handles itself: it retries the transaction, changes to the primary server, or has a message of its
# own.
ODOO_ERRORS = (
    *PG_CONCURRENCY_EXCEPTIONS_TO_RETRY,
    psycopg2.errors.ReadOnlySqlTransaction,
    psycopg2.errors.QueryCanceled,
    psycopg2.InterfaceError,
    psycopg2.IntegrityError,
)

# The model of each source type, and the columns that go into the metadata of its passages.
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
        """Neutralizes a copy of a neutralized database. Odoo's own switches are rows and are copied with it, but
        settings of a database are not.

        Nothing changes where the database has the setting ``chatbot_sync.enabled``, on or off.
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
    def _user_errors(self):
        """Turns errors of Postgres into messages for the user, except those that Odoo handles itself."""
        try:
            yield
        except ODOO_ERRORS:
            raise
        except psycopg2.Error as error:
            if not error.pgcode or error.pgcode.startswith(('08', '57')):  # the connection is lost, or the server shuts down
                raise
            lines = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
            raise UserError("\n".join(line for line in lines if line)) from error

    @api.model
    def _query(self, query):
        """Returns the rows of a statement that calls the extension, none where it has no result. A failed one is not logged,
        since it contains texts of users."""
        with self._user_errors(), self.env.cr.savepoint():
            self.env.cr.execute(query, log_exceptions=False)
            return self.env.cr.dictfetchall() if self.env.cr.description else []

    @api.model
    def _call(self, procedure):
        """Calls a procedure that commits step by step, on a connection of its own.

        It only sees committed data, and what it has committed stays when it fails.
        """
        cursor = db_connect(self.env.cr.dbname).cursor()
        with self._user_errors(), contextlib.closing(cursor):
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
    def _attached_modes(self):
        """Returns the mode of each attached table of this module, by table name."""
        if not self._is_installed():
            return {}
        tables = [self.env[model]._table for model, _columns in HOSTS.values()]
        rows = self._query(SQL(
            "SELECT c.relname, h.mode FROM chatbot_sync.host_table h JOIN pg_class c ON c.oid = h.relation"
            " WHERE h.relation = ANY (%s::text[]::regclass[])", tables,
        ))
        return {row['relname']: row['mode'] for row in rows}

    @api.model
    def _attached_records(self):
        """Returns the title's column and the content's columns of each table that is attached to one chatbot, by the name of
        its model and the chatbot's id."""
        if not self._is_installed():
            return {}
        return {
            (row['source_type'], row['chatbot_id']): (row['title_column'], row['content_columns'])
            for row in self._query(SQL(
                "SELECT source_type, chatbot_id, title_column, COALESCE(content_columns, ARRAY[content_column]) AS content_columns"
                " FROM chatbot_sync.host_table WHERE chatbot_id IS NOT NULL",
            ))
        }

    @api.model
    def _count_records(self, chatbot_ids):
        """Returns how many sources that are no documents or links each chatbot has, by chatbot and kind and then by status."""
        counts = {}
        for row in self._query(SQL(
            """
            SELECT chatbot_id, source_type, status, count(*) AS count
              FROM chatbot_sync.source
             WHERE chatbot_id = ANY (%s) AND source_type <> ALL (%s) AND enabled
             GROUP BY chatbot_id, source_type, status
            """, chatbot_ids, list(HOSTS),
        )) if chatbot_ids else ():
            counts.setdefault((row['chatbot_id'], row['source_type']), {})[row['status']] = row['count']
        return counts

    @api.model
    def _add_source_type(self, name):
        """Adds a kind of source. Where Odoo's role may not do it, an error says what a superuser has to run."""
        if self._query(SQL("SELECT 1 FROM chatbot_sync.source_type WHERE name = %s", name)):
            return
        try:
            with self.env.cr.savepoint():
                self.env.cr.execute(SQL("SELECT chatbot_add_source_type(%s)", name), log_exceptions=False)
        except psycopg2.errors.InsufficientPrivilege as error:
            raise UserError(self.env._(
                "Only a role of the level admin may add a kind of source for %(name)s.\n\n"
                "As a superuser of Postgres, in the database %(database)s, once for these records:\n"
                "SELECT chatbot_add_source_type('%(name)s');\n\n"
                "or once for all:\n"
                "SELECT chatbot_grant('%(role)s', 'admin');",
                name=name, database=self.env.cr.dbname, role=self.env.cr.connection.info.user,
            )) from error

    @api.model
    def _regclass(self, model):
        """Returns the name of a model's table, quoted for a cast to regclass."""
        return SQL.identifier(self.env[model]._table).code

    @api.model
    def _mode(self):
        """Returns the mode of the tables, ``'sync'`` or ``'async'``; ``False`` where they are not attached."""
        return next(iter(self._attached_modes().values()), False)

    @api.model
    def _attach(self, mode):
        """Attaches the module's tables in this mode. Tables that are attached in another mode are detached and
        attached again."""
        attached = self._attached_modes()
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
        for knowledge in self.env['chatbot.knowledge'].sudo().search([('connected', '=', True)]):
            knowledge._attach(mode)
        chatbots = self.env['chatbot.chatbot']._table
        if not self._query(SQL(
            "SELECT 1 FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = 'chatbot_sync_chatbots_delete'", chatbots,
        )):
            self._query(SQL("SELECT chatbot_attach_chatbots(%s::regclass)", chatbots))

    @api.model
    def _detach(self):
        """Detaches the module's tables, and deletes their sources, vectors and sessions."""
        self.env['chatbot.knowledge'].sudo().search([('connected', '=', True)])._detach()
        for table in self._attached_modes():
            self._query(SQL("SELECT chatbot_detach(%s::regclass, delete_embeddings => TRUE)", table))
        chatbots = self.env['chatbot.chatbot']._table
        self._query(SQL("SELECT chatbot_cleanup(id) FROM %s", SQL.identifier(chatbots)))
        self._query(SQL("SELECT chatbot_detach(%s::regclass)", chatbots))

    @api.model
    def _doctor(self):
        """Returns the rows of ``chatbot_doctor()``. It sends a test request to the provider, which may take 5 seconds
        at most."""
        self._query(SQL("SELECT set_config('chatbot_sync.sync_timeout', '5000', TRUE)"))
        return self._query(SQL("SELECT * FROM chatbot_doctor()"))

    @api.model
    def _cron_process_queue(self):
        """Processes the queue if a job is due. Workers of Postgres and this action share the jobs."""
        if self._query(SQL("SELECT 1 FROM chatbot_sync.job WHERE due_at <= now() LIMIT 1")):
            self._call(SQL("CALL chatbot_process_queue()"))
