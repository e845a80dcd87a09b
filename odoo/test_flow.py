"""The whole module in a running Odoo (one file, since one server serves all tests): over HTTP, as the web client does it, with a mock provider of embeddings.

tools/test-odoo.sh starts it. It sets ODOO_URL, and PGHOST and PGUSER for a superuser of the server.
"""

import base64
import collections
import contextlib
import http.server
import json
import os
import re
import threading
import time
import unittest
import zlib

import psycopg2
import requests

URL = os.environ['ODOO_URL']
MASTER = 'admin'  # Odoo's default master password
DIMENSIONS = 64
WAIT_TIMEOUT = 90  # seconds until waiting for a condition fails


class Provider(http.server.ThreadingHTTPServer):
    """Implements OpenAI's protocol. Texts that share words have similar vectors. ``fault`` is a status that is sent
    instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), ProviderHandler)
        self.fault = None
        self.requests = []
        threading.Thread(target=self.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True).start()

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_address[1]}/v1'


class ProviderHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        self.server.requests.append(asked['input'])
        if self.server.fault:
            self.answer(self.server.fault, {'error': {'message': f"the mock says {self.server.fault}"}})
        else:
            data = [{'object': 'embedding', 'index': at, 'embedding': vector(text)} for at, text in enumerate(asked['input'])]
            self.answer(200, {'object': 'list', 'data': data, 'model': asked['model'], 'usage': {'prompt_tokens': 1, 'total_tokens': 1}})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        if status == 429:
            self.send_header('Retry-After', '1')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def vector(text):
    counts = collections.Counter(zlib.crc32(word.encode()) % DIMENSIONS for word in re.findall(r'\w+', text.lower()))
    return [1e-3 + counts[place] for place in range(DIMENSIONS)]


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


class FlowCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.odoo = Odoo('flow')

    def setUp(self):
        provider.fault = None
        self.set_mode('sync')
        [self.chatbot] = self.odoo('chatbot.chatbot', 'create', [{'name': self.id().rpartition('.')[2]}])
        provider.requests.clear()

    def set_mode(self, mode, odoo=None):
        odoo = odoo or self.odoo
        [settings] = odoo('res.config.settings', 'create', [{'chatbot_mode': mode}])
        odoo('res.config.settings', 'execute', [settings])

    def documents(self, *contents, **values):
        return self.odoo('chatbot.document', 'create', [
            {'name': f"Document {n}", 'content': content, 'chatbot_id': self.chatbot, **values} for n, content in enumerate(contents)
        ])

    def search_texts(self, question, odoo=None, chatbot=None):
        passages = (odoo or self.odoo)('chatbot.chatbot', 'search_passages', [chatbot or self.chatbot], question)
        return [passage['content'] for passage in passages]


class TestRecords(FlowCase):
    def test_documents_are_followed_through_create_update_delete(self):
        ids = self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        self.assertEqual(self.odoo.read('chatbot.document', ids, 'status'), ['synced', 'synced'])
        self.assertEqual(len(provider.requests), 1)
        self.assertEqual(self.search_texts("vouchers")[0], "Vouchers are valid for three years.")
        self.odoo('chatbot.document', 'write', ids[1:], {'content': "Vouchers are valid for two years."})
        self.assertEqual(self.search_texts("vouchers")[0], "Vouchers are valid for two years.")
        provider.requests.clear()
        self.odoo('chatbot.document', 'write', ids, {'active': False})
        self.assertEqual(self.search_texts("vouchers"), [])
        self.odoo('chatbot.document', 'write', ids, {'active': True, 'name': "Other"})
        self.assertEqual(len(self.search_texts("vouchers")), 2)
        self.assertEqual(len(provider.requests), 2, "only the questions are embedded")
        self.odoo('chatbot.document', 'unlink', ids[1:])
        self.assertEqual(self.search_texts("vouchers"), ["Refunds are paid within ten days."])

    def test_many_documents_share_requests(self):
        ids = self.documents(*(f"The answer to question {n} is {n + 1}." for n in range(250)))
        self.assertEqual(set(self.odoo.read('chatbot.document', ids, 'status')), {'synced'})
        self.assertEqual(sum(map(len, provider.requests)), 250)
        self.assertLessEqual(len(provider.requests), 5, "not a request a document")
        [progress] = self.odoo.read('chatbot.chatbot', [self.chatbot], 'progress')
        self.assertEqual(progress, 100)
        self.odoo('chatbot.document', 'unlink', ids)
        self.assertEqual(row_counts('flow', self.chatbot), dict.fromkeys(('source', 'embedding', 'session', 'message', 'job'), 0))

    def test_uploaded_file_is_read_or_has_a_reason(self):
        file = base64.b64encode("Grüße aus Köln".encode()).decode()
        ids = self.odoo('chatbot.document', 'create', [
            {'file': file, 'file_name': 'letter.txt', 'chatbot_id': self.chatbot},
            {'file': base64.b64encode(b'%PDF-1.4 cut off').decode(), 'file_name': 'letter.pdf', 'chatbot_id': self.chatbot},
        ])
        good, bad = self.odoo.read('chatbot.document', ids, 'name', 'status', 'content', 'status_reason')
        self.assertEqual((good['name'], good['status'], good['content']), ('letter.txt', 'synced', "Grüße aus Köln"))
        self.assertEqual(bad['status'], 'error')
        self.assertIn("broken", bad['status_reason'])

    def test_deleted_chatbot_leaves_nothing(self):
        self.documents("Refunds are paid within ten days.")
        [ask] = self.odoo('chatbot.ask', 'create', [{'chatbot_id': self.chatbot, 'question': "When are refunds paid?"}])
        self.odoo('chatbot.ask', 'action_ask', [ask])
        self.assertGreater(min(count for table, count in row_counts('flow', self.chatbot).items() if table != 'job'), 0)
        self.odoo('chatbot.chatbot', 'unlink', [self.chatbot])
        self.assertEqual(set(row_counts('flow', self.chatbot).values()), {0})

    def test_concurrent_writes_succeed(self):
        [document] = self.documents("The first text.")
        failures = []

        def write(content):
            try:
                Odoo('flow')('chatbot.document', 'write', [document], {'content': content})
            except OdooError as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(f"Text number {n}.",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        [row] = self.odoo.read('chatbot.document', [document], 'status', 'content')
        self.assertEqual(row['status'], 'synced')
        self.assertEqual(self.search_texts("text number"), [row['content']])

    def test_link_is_fetched_unless_its_address_is_private(self):
        self.odoo('ir.config_parameter', 'set_param', 'chatbot_sync.allow_private_addresses', 'True')
        [link] = self.odoo('chatbot.link', 'create', [{'url': URL + '/web/login', 'chatbot_id': self.chatbot}])
        self.odoo.wait('chatbot.link', [link], status='synced')
        self.odoo('ir.config_parameter', 'set_param', 'chatbot_sync.allow_private_addresses', '')
        self.odoo('chatbot.link', 'action_fetch', [link])
        [row] = self.odoo.read('chatbot.link', [link], 'status', 'status_reason')
        self.assertEqual(row['status'], 'error')
        self.assertIn("not a public address", row['status_reason'])


class TestProvider(FlowCase):
    def test_retry_after_a_failure_syncs(self):
        [before] = self.documents("The old text.")
        # Requests that are retried until the timeout may end with their status or as a timeout.
        for fault, reason in ((401, "key"), (404, "404"), (500, "openai_compatible"), (429, "openai_compatible")):
            with self.subTest(fault):
                provider.fault = fault
                [document] = self.documents(f"A text for {fault}.")
                self.odoo('chatbot.document', 'write', [before], {'content': f"A new text for {fault}."})
                for row in self.odoo.read('chatbot.document', [before, document], 'status', 'status_reason', 'processed'):
                    self.assertEqual((row['status'], row['processed']), ('error', False))
                    self.assertIn(reason, row['status_reason'])
                action = self.odoo('chatbot.document', 'action_retry', [document])
                self.assertEqual(action['params']['type'], 'warning')
                provider.fault = None
                # A provider that throttles is not asked before the wait that it named is over.
                wait(lambda ids=(before, document): self.odoo('chatbot.document', 'action_retry', list(ids))['params']['type'] != 'warning')
                self.assertEqual(set(self.odoo.read('chatbot.document', [before, document], 'status')), {'synced'})
                self.assertIn(f"A new text for {fault}.", self.search_texts(f"new text for {fault}"))

    def test_question_without_provider_is_a_user_error(self):
        self.documents("A text.")
        provider.fault = 401
        [ask] = self.odoo('chatbot.ask', 'create', [{'chatbot_id': self.chatbot, 'question': "What?"}])
        with self.assertRaises(OdooError) as caught:
            self.odoo('chatbot.ask', 'action_ask', [ask])
        self.assertEqual(caught.exception.kind, 'odoo.exceptions.UserError')
        self.assertIn("the mock says 401", str(caught.exception))

    def test_sync_all_embeds_failed_documents(self):
        provider.fault = 401
        ids = self.documents(*(f"Text number {n}." for n in range(150)))
        [row] = self.odoo.read('chatbot.chatbot', [self.chatbot], 'error_count', 'progress')
        self.assertEqual((row['error_count'], row['progress']), (150, 0))
        provider.fault = None
        self.odoo('chatbot.chatbot', 'action_sync_all', [self.chatbot])
        self.odoo.wait('chatbot.chatbot', [self.chatbot], sync_requested=False, progress=100, error_count=0)
        self.assertEqual(set(self.odoo.read('chatbot.document', ids, 'status')), {'synced'})

    def test_settings_show_that_the_provider_is_down(self):
        provider.fault = 401
        [settings] = self.odoo('res.config.settings', 'create', [{}])
        [doctor] = self.odoo.read('res.config.settings', [settings], 'chatbot_doctor')
        self.assertIn("the mock says 401", doctor)


class TestLater(FlowCase):
    def setUp(self):
        super().setUp()
        self.set_mode('async')

    def test_workers_embed_saved_documents(self):
        ids = self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        self.odoo.wait('chatbot.document', ids, status='synced', processed=True)
        self.assertEqual(self.search_texts("vouchers")[0], "Vouchers are valid for three years.")
        self.odoo('chatbot.document', 'write', ids, {'content': "The same for both."})
        self.odoo.wait('chatbot.document', ids, status='synced')
        self.assertEqual(self.search_texts("vouchers"), ["The same for both."] * 2)
        self.odoo('chatbot.chatbot', 'unlink', [self.chatbot])
        wait(lambda: not any(row_counts('flow', self.chatbot).values()))

    def test_retry_after_a_failure_syncs(self):
        provider.fault = 401
        ids = self.documents("A text.", "Another.")
        self.odoo.wait('chatbot.document', ids, status='error')
        self.assertIn("the mock says 401", self.odoo.read('chatbot.document', ids, 'status_reason')[0])
        provider.fault = None
        self.odoo('chatbot.document', 'action_retry', ids)
        self.odoo.wait('chatbot.document', ids, status='synced')

    def test_scheduled_action_processes_the_queue_without_workers(self):
        set_server('databases', "'nowhere'")
        self.addCleanup(set_server, 'databases', 'DEFAULT')
        ids = self.documents("Refunds are paid within ten days.")
        crons = self.odoo('ir.cron', 'search', [('name', 'ilike', "what is queued")])
        with contextlib.suppress(OdooError):  # the scheduler may run it at this moment, which makes the call fail
            self.odoo('ir.cron', 'method_direct_trigger', crons)
        self.odoo.wait('chatbot.document', ids, status='synced')

    def test_throttled_documents_are_synced_later(self):
        provider.fault = 429
        ids = self.documents("A text.")
        wait(lambda: provider.requests)
        provider.fault = None
        self.odoo.wait('chatbot.document', ids, status='synced')


class TestDatabases(FlowCase):
    def manage(self, action, files=None, **form):
        answer = requests.post(
            f'{URL}/web/database/{action}', data={'master_pwd': MASTER, **form}, files=files, timeout=300, allow_redirects=False,
        )
        self.assertLess(answer.status_code, 400)
        # On failure the page is shown again with the reason in it.
        reason = re.search(r'alert-danger[^>]*>(.*?)<', answer.text if 'html' in answer.headers.get('Content-Type', '') else '', re.DOTALL)
        self.assertFalse(reason and reason[1].strip())
        return answer

    def check_copy(self, database, chatbot):
        """Checks that a copied database works by itself."""
        odoo = Odoo(database)
        self.assertEqual(self.search_texts("vouchers", odoo, chatbot)[0], "Vouchers are valid for three years.")
        ids = odoo('chatbot.document', 'create', [{'name': "New", 'content': "Gadgets glow green.", 'chatbot_id': chatbot}])
        odoo.wait('chatbot.document', ids, status='synced')
        self.assertEqual(self.search_texts("gadgets glow", odoo, chatbot)[0], "Gadgets glow green.")
        self.assertEqual(sql(database, "SELECT check_name, detail FROM chatbot_doctor() WHERE status = 'error'"), [])
        self.assertEqual(sql(database, "SELECT * FROM chatbot_verify()"), [])
        return odoo

    def test_duplicate_works_and_uninstall_leaves_nothing(self):
        self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        self.manage('duplicate', name='flow', new_name='flow_copy')
        copy = self.check_copy('flow_copy', self.chatbot)
        self.assertEqual(len(self.search_texts("gadgets glow")), 2, "the original is not touched")
        [module] = copy('ir.module.module', 'search', [('name', '=', 'chatbot_sync')])
        copy('ir.module.module', 'button_immediate_uninstall', [module])
        for table in ('source', 'embedding', 'session', 'message', 'job'):
            self.assertEqual(sql('flow_copy', f"SELECT count(*) FROM chatbot_sync.{table}"), [(0,)], table)
        self.assertEqual(sql('flow_copy', "SELECT * FROM chatbot_sync.host_table"), [])
        Odoo('flow_copy')('ir.module.module', 'button_immediate_install', [module])
        [mode] = sql('flow_copy', "SELECT DISTINCT mode FROM chatbot_sync.host_table")
        self.assertEqual(mode, ('sync',))
        self.manage('drop', name='flow_copy')

    def test_restored_backup_works(self):
        self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        rows = {table: sql('flow', f"SELECT count(*) FROM chatbot_sync.{table}") for table in ('source', 'embedding', 'session', 'message')}
        # Odoo's role may not comment on an extension of a superuser, which pg_restore would report as a failure.
        for extension in ('vector', 'chatbot_sync'):
            sql('flow', f"COMMENT ON EXTENSION {extension} IS NULL")
        for backup_format in ('zip', 'dump'):
            with self.subTest(backup_format):
                name = f'flow_{backup_format}'
                backup = self.manage('backup', name='flow', backup_format=backup_format).content
                self.manage('restore', {'backup_file': (name, backup)}, name=name, copy='true')
                for table, count in rows.items():
                    self.assertEqual(sql(name, f"SELECT count(*) FROM chatbot_sync.{table}"), count, table)
                self.check_copy(name, self.chatbot)
                self.manage('drop', name=name)

    def test_neutralized_copies_send_nothing(self):
        self.documents("Refunds are paid within ten days.", "Vouchers are valid for three years.")
        provider.requests.clear()
        self.manage('duplicate', name='flow', new_name='flow_neutral', neutralize_database='true')
        # Odoo does not neutralize a copy of the copy, since its rows already say that it is neutralized.
        self.manage('duplicate', name='flow_neutral', new_name='flow_neutral_too')
        for name in ('flow_neutral', 'flow_neutral_too'):
            with self.subTest(name):
                copy = Odoo(name)
                for mode in ('sync', 'async'):
                    self.set_mode(mode, copy)
                    ids = copy('chatbot.document', 'create', [{'name': mode, 'content': "A new text.", 'chatbot_id': self.chatbot}])
                    self.assertEqual(copy.read('chatbot.document', ids, 'status'), ['pending'])
                    copy('chatbot.document', 'action_retry', ids)
                active = copy('ir.cron', 'search_count', [('name', '=like', 'Chatbots: %')])
                self.assertEqual(active, 0)
                [link] = copy('chatbot.link', 'create', [{'url': URL, 'chatbot_id': self.chatbot}])
                with self.assertRaises(OdooError):
                    copy('chatbot.link', 'action_fetch', [link])
                # Other processes that could embed what is pending.
                sql(name, "CALL chatbot_process_queue()")
                sql(name, "CALL chatbot_sync_all()")
                self.assertEqual(copy.read('chatbot.document', ids, 'status'), ['pending'])
                copy('chatbot.chatbot', 'unlink', [self.chatbot])
                self.assertEqual(row_counts(name, self.chatbot), dict.fromkeys(('source', 'embedding', 'session', 'message', 'job'), 0))
                self.manage('drop', name=name)
        self.assertEqual(provider.requests, [])

    def test_duplicate_succeeds_while_workers_are_busy(self):
        self.set_mode('async')
        ids = self.documents(*(f"Text number {n}." for n in range(100)), "Vouchers are valid for three years.")
        self.manage('duplicate', name='flow', new_name='flow_busy')
        Odoo('flow_busy').wait('chatbot.document', ids, status='synced')
        self.odoo = Odoo('flow')
        self.odoo.wait('chatbot.document', ids, status='synced')
        self.check_copy('flow_busy', self.chatbot)
        self.manage('drop', name='flow_busy')


if __name__ == '__main__':
    provider = Provider()
    set_server('openai_compatible_url', f"'{provider.url}'")
    # Failures and retries come soon.
    set_server('sync_timeout', '3000')
    set_server('retry_delay', '100')
    sql('flow', "SELECT chatbot_set_model('openai_compatible', 'mock', %s)", DIMENSIONS)
    wait(is_up)
    unittest.main()
