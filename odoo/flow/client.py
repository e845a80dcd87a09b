"""Access to the running Odoo as the web client has it, and to its Postgres as a superuser."""

import os
import re
import time

import psycopg2
import requests

URL = os.environ['ODOO_URL']
MASTER = 'admin'  # Odoo's default master password
WAIT_TIMEOUT = 90  # seconds until waiting for a condition fails


class Odoo:
    """A session of a user in a database."""

    def __init__(self, database, login='admin', password='admin'):
        self.database = database
        self.http = requests.Session()
        self.post('/web/session/authenticate', db=database, login=login, password=password)

    def post(self, path, **params):
        answer = self.http.post(URL + path, json={'jsonrpc': '2.0', 'method': 'call', 'params': params}, timeout=300).json()
        if 'error' in answer:
            raise OdooError(answer['error'])
        return answer['result']

    def __call__(self, model, method, *args, **kwargs):
        return self.post(f'/web/dataset/call_kw/{model}/{method}', model=model, method=method, args=list(args), kwargs=kwargs)

    def read(self, model, ids, *names):
        rows = self(model, 'read', ids, list(names))
        return [row[names[0]] for row in rows] if len(names) == 1 else rows

    def wait(self, model, ids, **wanted):
        """Waits until all records have these values."""
        def there():
            return all(all(row[name] == value for name, value in wanted.items()) for row in self.read(model, ids, *wanted, 'id'))
        wait(there, lambda: self.read(model, ids, *wanted, 'id'))


class OdooError(Exception):
    def __init__(self, error):
        super().__init__(error['data']['message'])
        self.kind = error['data']['name']


def wait(condition, told=lambda: ''):
    until = time.monotonic() + WAIT_TIMEOUT
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f'waited in vain: {told()}')
        time.sleep(0.1)


def is_up():
    try:
        return requests.get(f'{URL}/web/health', timeout=10).ok
    except requests.ConnectionError:
        return False


def sql(database, statement, *params):
    connection = psycopg2.connect(dbname=database)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def set_server(setting, value):
    """Changes a setting of the server, and waits until sessions see it."""
    sql('flow', f"ALTER SYSTEM SET chatbot_sync.{setting} = {value}")
    [[generation]] = sql('flow', "SELECT pg_conf_load_time()")
    sql('flow', "SELECT pg_reload_conf()")
    wait(lambda: sql('flow', "SELECT pg_conf_load_time()") > [(generation,)])


def row_counts(database, chatbot):
    """Returns the number of rows that the extension has for a chatbot, by table."""
    return {
        table: sql(database, f"SELECT count(*) FROM chatbot_sync.{table} WHERE chatbot_id = %s", chatbot)[0][0]
        for table in ('source', 'embedding', 'session', 'message', 'job')
    }


def manage(action, files=None, **form):
    """Has Odoo's database manager do something, and fails where it says why it did not."""
    # With a session of the database: without one Odoo makes one after the duplicate has closed the cursor, and fails.
    answer = Odoo('flow').http.post(
        f'{URL}/web/database/{action}', data={'master_pwd': MASTER, **form}, files=files, timeout=300, allow_redirects=False,
    )
    is_page = 'html' in answer.headers.get('Content-Type', '')
    reason = re.search(r'alert-danger[^>]*>(.*?)<', answer.text if is_page else '', re.DOTALL)
    if answer.status_code >= 400 or reason and reason[1].strip():
        raise AssertionError(f"{action}: {answer.status_code} {reason and reason[1].strip()}")
    return answer
