"""Hooks of installing and uninstalling the module."""

import psycopg2

from odoo.exceptions import UserError
from odoo.tools import SQL, parse_version

# The first version of the extension that has all that the module calls.
MINIMAL_VERSION = '0.3.0'


def pre_init_hook(env):
    """Checks that the Postgres extension exists and that Odoo's role may use it; otherwise raises an error with the
    statements to run."""
    role, database = env.cr.connection.info.user, env.cr.dbname
    advice = env._(
        "As a superuser of Postgres, in the database %(database)s:\n"
        "CREATE EXTENSION IF NOT EXISTS chatbot_sync CASCADE;\n"
        "SELECT chatbot_grant('%(role)s');",
        database=database, role=role,
    )
    try:
        with env.cr.savepoint():
            env.cr.execute("CREATE EXTENSION IF NOT EXISTS chatbot_sync CASCADE", log_exceptions=False)
    except psycopg2.Error as error:
        raise UserError(env._(
            "The Postgres extension chatbot_sync cannot be created: %(reason)s.\n\n%(advice)s",
            reason=error.diag.message_primary, advice=advice,
        )) from error
    check_version(env)
    # These functions are in the level "app". The role that created the extension owns them and needs no grant.
    [[granted]] = env.execute_query(SQL("""
        SELECT COALESCE(bool_and(has_function_privilege(p.oid, 'EXECUTE')), FALSE)
          FROM pg_extension e
          JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
          JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
         WHERE e.extname = 'chatbot_sync' AND p.proname IN ('chatbot_attach', 'chatbot_search', 'chatbot_doctor')
    """))
    if not granted:
        raise UserError(env._("The role %(role)s may not use the extension chatbot_sync.\n\n%(advice)s", role=role, advice=advice))


def check_version(env):
    """Checks that the extension in this database has what the module calls; otherwise raises an error with the statement to
    run."""
    [[version]] = env.execute_query(SQL("SELECT extversion FROM pg_extension WHERE extname = 'chatbot_sync'"))
    if parse_version(version) < parse_version(MINIMAL_VERSION):
        raise UserError(env._(
            "The Postgres extension chatbot_sync is %(version)s in this database, and %(minimal)s is needed.\n\n"
            "As a superuser of Postgres, in the database %(database)s:\n"
            "ALTER EXTENSION chatbot_sync UPDATE;",
            version=version, minimal=MINIMAL_VERSION, database=env.cr.dbname,
        ))


def post_init_hook(env):
    """Attaches the module's tables, so that their rows become sources."""
    env['chatbot.extension']._attach('sync')


def uninstall_hook(env):
    """Detaches the module's tables and deletes the vectors of their rows."""
    if env['chatbot.extension']._is_installed():
        env['chatbot.extension']._detach()
